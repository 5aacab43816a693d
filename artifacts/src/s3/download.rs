//! Getting objects: in one request where they are small, in parts where they are not, several at a time.
//!
//! A part that breaks off goes on where it was. All parts are of the object as it was when the first was asked for.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::encryption::{CustomerKey, with_key};
use super::errors::explain;
use super::store::{S3Store, object};
use crate::{Body, Error, ErrorKind};

const PART_BYTES: u64 = 4 << 20;
/// Parts of one object on their way at once. They are in memory.
const IN_FLIGHT: usize = 4;
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);

impl S3Store {
    pub(super) async fn download(&self, key: &str) -> Result<Body, Error> {
        let customer = self.encryption.customer_key(&self.bucket, key).await?;
        let (client, bucket) = (self.client.clone(), self.bucket.clone());
        let wanted = Arc::new(Wanted { client, bucket, key: key.to_owned(), customer });
        let first = match wanted.ask(Some(0..PART_BYTES), None).await {
            Err(error) if is_unsatisfiable(&error) => wanted.ask(None, None).await,
            answer => answer,
        };
        let first = first.map_err(|error| explain(&object(key), error))?;
        // A server that knows no ranges sends everything, and does not say of how much this is a part.
        let whole = first.content_range().and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
        let length = whole.or_else(|| first.content_length().and_then(|length| u64::try_from(length).ok()));
        let e_tag = first.e_tag().map(str::to_owned);
        let begun = stream(first.body);
        let Some(whole) = whole.filter(|whole| *whole > PART_BYTES) else { return Ok(Body::new(begun, length)) };
        let starts = (1..whole.div_ceil(PART_BYTES)).map(|number| number * PART_BYTES);
        let parts = stream::iter(starts).map(move |start| {
            let (wanted, e_tag) = (Arc::clone(&wanted), e_tag.clone());
            // On its own, so that it goes on while another is written.
            let part = async move { wanted.part(start..(start + PART_BYTES).min(whole), e_tag).await };
            AbortOnDropHandle::new(tokio::spawn(part))
        });
        let parts =
            parts.buffered(IN_FLIGHT).map(|part| part.unwrap_or_else(|error| Err(broke_off().caused_by(error))));
        let rest = parts.map_ok(|chunks| stream::iter(chunks).map(Ok)).try_flatten();
        Ok(Body::new(begun.chain(rest).boxed(), Some(whole)))
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
    /// A part, in the pieces in which it came.
    async fn part(&self, part: Range<u64>, e_tag: Option<String>) -> Result<Vec<Bytes>, Error> {
        let (mut chunks, mut next, mut attempt) = (Vec::new(), part.start, 1);
        loop {
            let answer = self.ask(Some(next..part.end), e_tag.clone()).await;
            let mut body = stream(answer.map_err(|error| explain(&object(&self.key), error))?.body);
            let broken = loop {
                match body.next().await {
                    Some(Ok(chunk)) => {
                        next += chunk.len() as u64;
                        chunks.push(chunk);
                    }
                    Some(Err(error)) => break error,
                    None if next == part.end => return Ok(chunks),
                    None => break broke_off(),
                }
                if next > part.end {
                    return Err(Error::new(ErrorKind::Unavailable, "the store sends more than it was asked for"));
                }
            };
            if attempt == ATTEMPTS {
                return Err(broken);
            }
            tracing::debug!(key = self.key, attempt, "a part broke off, going on where it was");
            tokio::time::sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    async fn ask(
        &self,
        range: Option<Range<u64>>,
        e_tag: Option<String>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError, HttpResponse>> {
        let request = self.client.get_object().bucket(&self.bucket).key(&self.key).set_if_match(e_tag);
        let range = range.map(|range| format!("bytes={}-{}", range.start, range.end - 1));
        with_key!(request.set_range(range), self.customer.clone()).send().await
    }
}

/// Of an object of no bytes there is no part.
fn is_unsatisfiable(error: &SdkError<GetObjectError, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 416)
}

fn stream(body: ByteStream) -> BoxStream<'static, Result<Bytes, Error>> {
    let stream = stream::try_unfold(body, |mut body| async move {
        let chunk = body.try_next().await.map_err(|error| broke_off().caused_by(error))?;
        Ok(chunk.map(|chunk| (chunk, body)))
    });
    stream.boxed()
}

fn broke_off() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the store broke off")
}
