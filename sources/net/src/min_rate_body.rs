//! A response body that fails if the server sends too little.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::{Error, ErrorKind, MinRate};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The longest time without a frame.
const MAX_SILENCE: Duration = Duration::from_secs(30);

struct MinRateBody<F> {
    body: reqwest::Body,
    /// Scheme, host and port of the server.
    origin: String,
    /// Starts with the first frame: until the caller reads, the server cannot send.
    rate: Option<MinRate>,
    max_silence: Duration,
    /// The timer of the current silence.
    silence: Option<Pin<Box<Sleep>>>,
    convert: F,
}

/// The same response with a body that fails if the server is silent for 30 s or slower than the
/// [`MinRate`].
///
/// The HTTP library wraps the error of a body. `convert` turns the error of this crate into the
/// type that the reader of the body looks for among the causes.
pub fn with_min_rate<E>(
    response: reqwest::Response,
    convert: impl Fn(Error) -> E + Send + Sync + Unpin + 'static,
) -> reqwest::Response
where
    E: Into<BoxError>,
{
    limit(response, MAX_SILENCE, move |error| convert(error).into())
}

fn limit(
    response: reqwest::Response,
    max_silence: Duration,
    convert: impl Fn(Error) -> BoxError + Send + Sync + Unpin + 'static,
) -> reqwest::Response {
    let origin = response.url().origin().ascii_serialization();
    let response: http::Response<reqwest::Body> = response.into();
    let response = response.map(|body| {
        reqwest::Body::wrap(MinRateBody {
            body,
            origin,
            rate: None,
            max_silence,
            silence: None,
            convert,
        })
    });
    reqwest::Response::from(response)
}

impl<F: Fn(Error) -> BoxError + Unpin> MinRateBody<F> {
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<BoxError> {
        let max_silence = self.max_silence;
        let timer = self
            .silence
            .get_or_insert_with(|| Box::pin(sleep(max_silence)));
        ready!(timer.as_mut().poll(context));
        let message = format!(
            "{} sent nothing for {} s",
            self.origin,
            max_silence.as_secs()
        );
        Poll::Ready((self.convert)(Error::new(ErrorKind::Unavailable, message)))
    }
}

impl<F: Fn(Error) -> BoxError + Unpin> Body for MinRateBody<F> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            return this.poll_silence(context).map(|error| Some(Err(error)));
        };
        this.silence = None;
        let Some(frame) = frame.transpose()? else {
            return Poll::Ready(None);
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let now = Instant::now();
        let rate = this.rate.get_or_insert_with(|| MinRate::new(now));
        Poll::Ready(Some(match rate.received(bytes, now) {
            Ok(()) => Ok(frame),
            Err(too_slow) => {
                let message = format!("{} is too slow: {too_slow}", this.origin);
                Err((this.convert)(Error::new(ErrorKind::TooSlow, message)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct OfTheCaller(Error);

    #[tokio::test]
    async fn a_silent_server_ends_the_body_with_the_callers_error() {
        let silent = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let response = http::Response::new(reqwest::Body::wrap_stream(silent));
        let convert = |error| OfTheCaller(error).into();
        let response = limit(response.into(), Duration::from_millis(1), convert);
        let error = response.bytes().await.unwrap_err();
        let mut cause: Option<&dyn StdError> = Some(&error);
        while let Some(inner) = cause {
            if let Some(found) = inner.downcast_ref::<OfTheCaller>() {
                assert!(found.to_string().ends_with("sent nothing for 0 s"));
                assert_eq!(found.0.kind(), ErrorKind::Unavailable);
                return;
            }
            cause = inner.source();
        }
        panic!("{error:?}");
    }
}
