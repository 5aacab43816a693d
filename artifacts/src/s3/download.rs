//! Getting objects: in one request where they are small, in parts where they are not, several at a time.
//!
//! All parts are of one object: each must have the tag and the size that the first answer named, and begin where it was asked to. Where a server
//! says neither, the object comes in one piece. A part after the first that breaks off goes on where it was.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::checksum::Checksum;
use super::encryption::{CustomerKey, with_key};
use super::errors::explain;
use super::memory_budget::MemoryBudget;
use super::store::{S3Store, object};
use crate::{Body, Error, ErrorKind};

const PART_BYTES: u64 = 4 << 20;
/// Parts of one object on their way at once. They are in memory.
const IN_FLIGHT: usize = 4;
/// An answer with less of a part than that is one that broke off.
const LEAST: u64 = 64 << 10;
const ATTEMPTS: u32 = 4;
/// The longest wait for what only makes sure.
const CHECKSUM_WAIT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(250);

impl S3Store {
    pub(super) async fn download(&self, key: &str) -> Result<Body, Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let (client, bucket) = (self.client.clone(), self.bucket.clone());
        let wanted = Arc::new(Wanted {
            client,
            bucket,
            key: key.to_owned(),
            customer,
        });
        let first = match wanted.ask(Some(0..PART_BYTES), None).await {
            Err(error) if is_unsatisfiable(&error) => return wanted.whole().await,
            answer => answer.map_err(|error| explain(&object(key), error))?,
        };
        let length = first
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        let Some(said) = first.content_range() else {
            // A server that knows no ranges sends everything; or something on the way took away what this is a part of.
            return if length == Some(PART_BYTES) {
                wanted.whole().await
            } else {
                Ok(Body::new(stream(first.body), length))
            };
        };
        let span = Span::parse(said).filter(|span| span.start == 0);
        let e_tag = first
            .e_tag()
            .filter(|tag| !tag.starts_with("W/"))
            .map(str::to_owned);
        match (span, e_tag) {
            (Some(span), _) if span.end == span.whole => {
                Ok(Body::new(stream(first.body), Some(span.whole)))
            }
            (Some(span), Some(e_tag)) => {
                let checksum = wanted.checksum(&e_tag).await;
                let body = wanted.in_parts(first.body, &span, e_tag, self.memory.clone());
                Ok(match checksum {
                    Some(checksum) => Body {
                        stream: checksum.hold(body.stream),
                        ..body
                    },
                    None => body,
                })
            }
            _ => wanted.whole().await,
        }
    }
}

/// `Content-Range: bytes 0-3/10` (RFC 9110, 14.4); the end is the first byte that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
    whole: u64,
}

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, last) = range.split_once('-')?;
        let (start, last, whole) = (
            start.parse().ok()?,
            last.parse::<u64>().ok()?,
            whole.parse().ok()?,
        );
        (start <= last && last < whole).then_some(Self {
            start,
            end: last + 1,
            whole,
        })
    }
}

/// An object to get.
struct Wanted {
    client: Client,
    bucket: String,
    key: String,
    customer: Option<CustomerKey>,
}

impl Wanted {
    /// In one piece.
    async fn whole(&self) -> Result<Body, Error> {
        let answer = self
            .ask(None, None)
            .await
            .map_err(|error| explain(&object(&self.key), error))?;
        let length = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        Ok(Body::new(stream(answer.body), length))
    }

    /// What the server knows of the whole. Without that, it comes all the same.
    async fn checksum(&self, e_tag: &str) -> Option<Checksum> {
        let request = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .if_match(e_tag);
        let request = with_key!(
            request.checksum_mode(ChecksumMode::Enabled),
            self.customer.clone()
        );
        let head = tokio::time::timeout(CHECKSUM_WAIT, request.send())
            .await
            .ok()?
            .ok()?;
        if head.e_tag() == Some(e_tag) {
            Checksum::of(&head)
        } else {
            None
        }
    }

    /// The first part, and the others behind it.
    fn in_parts(
        self: Arc<Self>,
        begun: ByteStream,
        first: &Span,
        e_tag: String,
        memory: MemoryBudget,
    ) -> Body {
        let (begin, whole) = (first.end, first.whole);
        let e_tag: Arc<str> = e_tag.into();
        let starts = (0..(whole - begin).div_ceil(PART_BYTES))
            .map(move |number| begin + number * PART_BYTES);
        // Memory is taken in the order in which parts are needed: or those behind would keep the first from theirs.
        let turned = stream::iter(starts).then(move |start| {
            let memory = memory.clone();
            async move { (start, memory.acquire(PART_BYTES).await) }
        });
        let parts = turned.map(move |(start, permit)| {
            let (wanted, e_tag) = (Arc::clone(&self), Arc::clone(&e_tag));
            let span = Span {
                start,
                end: (start + PART_BYTES).min(whole),
                whole,
            };
            // On its own, so that it goes on while another is written.
            AbortOnDropHandle::new(tokio::spawn(async move {
                wanted.part(span, &e_tag).await.map(|part| (part, permit))
            }))
        });
        let rest = parts
            .buffered(IN_FLIGHT)
            .map(|part| part.unwrap_or_else(|error| Err(broke_off(error))));
        // The memory is free when the part is handed on.
        let rest = rest.map_ok(|(part, _permit)| part);
        Body::new(stream(begun).chain(rest).boxed(), Some(whole))
    }

    /// A part, as often as it breaks off from where that was.
    async fn part(&self, part: Span, e_tag: &str) -> Result<Bytes, Error> {
        let size = usize::try_from(part.end - part.start).unwrap_or_default();
        let (mut bytes, mut attempt) = (BytesMut::with_capacity(size), 1);
        'asking: loop {
            let span = Span {
                start: part.start + bytes.len() as u64,
                ..part
            };
            let answer = self
                .ask(Some(span.start..span.end), Some(e_tag.to_owned()))
                .await;
            let answer = answer.map_err(|error| explain(&object(&self.key), error))?;
            let said = answer.content_range().and_then(Span::parse);
            let said = said.filter(|said| said.start == span.start && said.whole == span.whole);
            let Some(said) = said.filter(|_| answer.e_tag() == Some(e_tag)) else {
                let message = format!(
                    "{} is another than it was when it was begun",
                    object(&self.key)
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            };
            let mut body = stream(answer.body);
            let broken = loop {
                match body.next().await {
                    Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                    Some(Err(error)) => break error,
                    None if bytes.len() == size => return Ok(bytes.freeze()),
                    // It may send less than it was asked for, as long as that is what it says, and not next to nothing.
                    None if part.start + bytes.len() as u64 == said.end
                        && said.end - said.start >= LEAST =>
                    {
                        continue 'asking;
                    }
                    None => {
                        break Error::new(
                            ErrorKind::Unavailable,
                            "the store sent less than it was asked for",
                        );
                    }
                }
                if bytes.len() > size {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "the store sends more than it was asked for",
                    ));
                }
            };
            if attempt == ATTEMPTS || !broken.retryable() {
                return Err(broken);
            }
            tracing::debug!(
                key = self.key,
                attempt,
                "a part broke off, going on where it was"
            );
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn ask(
        &self,
        range: Option<Range<u64>>,
        e_tag: Option<String>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&self.key)
            .set_if_match(e_tag);
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        with_key!(request.set_range(range), self.customer.clone())
            .send()
            .await
    }
}

/// Of an object of no bytes there is no part.
fn is_unsatisfiable(error: &SdkError<GetObjectError, HttpResponse>) -> bool {
    error
        .raw_response()
        .is_some_and(|response| response.status().as_u16() == 416)
}

fn stream(body: ByteStream) -> BoxStream<'static, Result<Bytes, Error>> {
    let stream = stream::try_unfold(body, |mut body| async move {
        let chunk = body.try_next().await.map_err(broke_off)?;
        Ok(chunk.map(|chunk| (chunk, body)))
    });
    stream.boxed()
}

fn broke_off(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::broken("the connection to the store broke off", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_they_say_or_nothing() {
        assert_eq!(
            Span::parse("bytes 0-3/10"),
            Some(Span {
                start: 0,
                end: 4,
                whole: 10
            })
        );
        for text in [
            "bytes 0-3/*",
            "bytes */10",
            "bytes 3-0/10",
            "bytes 0-10/10",
            "0-3/10",
            "bytes 0-3",
            "",
        ] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
