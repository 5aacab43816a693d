//! Answers that must not come too slowly.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use artifacts::{Error, ErrorKind};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sources::transport::Pace;
use tokio::time::{Sleep, sleep};

/// The longest wait for more of an answer.
const SILENCE: Duration = Duration::from_secs(30);

/// The body of an answer, which ends with an error where too little comes.
struct Paced {
    body: reqwest::Body,
    origin: String,
    /// From the first piece on: whoever does not read yet is not kept waiting.
    pace: Option<Pace>,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

/// The same answer, whose body keeps the pace.
pub(super) fn paced(answer: reqwest::Response) -> reqwest::Response {
    let origin = answer.url().origin().ascii_serialization();
    let answer: http::Response<reqwest::Body> = answer.into();
    let paced = answer.map(|body| {
        reqwest::Body::wrap(Paced {
            body,
            origin,
            pace: None,
            silence: None,
        })
    });
    reqwest::Response::from(paced)
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            ready!(
                this.silence
                    .get_or_insert_with(|| Box::pin(sleep(SILENCE)))
                    .as_mut()
                    .poll(context)
            );
            let message = format!("{} sent nothing for {} s", this.origin, SILENCE.as_secs());
            return Poll::Ready(Some(
                Err(Error::new(ErrorKind::Unavailable, message).into()),
            ));
        };
        this.silence = None;
        let Some(frame) = frame.transpose()? else {
            return Poll::Ready(None);
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let now = Instant::now();
        let arrived = this
            .pace
            .get_or_insert_with(|| Pace::new(now))
            .arrived(bytes, now);
        Poll::Ready(Some(match arrived {
            Ok(()) => Ok(frame),
            Err((bytes, passed)) => {
                let message = format!(
                    "{} is too slow: {bytes} bytes in {} s",
                    this.origin,
                    passed.as_secs()
                );
                Err(Error::new(ErrorKind::TooSlow, message).into())
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
