//! Sends requests to the API server.

use std::pin::pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncReadExt};
use http::request::Builder;

use super::client::Kubernetes;
use super::request::{ApiError, TIMEOUT};

/// The reason that `kube` gives to an answer that is not a `Status` object.
const NO_STATUS: &str = "Failed to parse error data";

impl Kubernetes {
    /// Sends a request, and reads the answer, which has at most `limit` bytes.
    pub(super) async fn send(
        &self,
        request: Builder,
        body: Vec<u8>,
        limit: u64,
    ) -> Result<Vec<u8>, ApiError> {
        self.send_within(TIMEOUT, request, body, limit).await
    }

    /// Sends a request, and reads the answer, which has at most `limit` bytes and must be complete
    /// after `time`.
    pub(super) async fn send_within(
        &self,
        time: Duration,
        request: Builder,
        body: Vec<u8>,
        limit: u64,
    ) -> Result<Vec<u8>, ApiError> {
        let read = async {
            let answer = pin!(self.open(request, body).await?);
            let mut text = Vec::new();
            let read = answer.take(limit + 1).read_to_end(&mut text).await;
            read.map_err(|error| ApiError::NoAnswer(format!("{error}{}", self.via())))?;
            match text.len() as u64 > limit {
                true => Err(ApiError::TooLarge(limit)),
                false => Ok(text),
            }
        };
        let answer = tokio::time::timeout(time, read).await;
        answer.unwrap_or_else(|_| {
            let message = format!("no answer within {time:?}{}", self.via());
            Err(ApiError::NoAnswer(message))
        })
    }

    /// Sends a request, and returns the answer as a stream of bytes.
    pub(super) async fn open(
        &self,
        request: Builder,
        body: Vec<u8>,
    ) -> Result<impl AsyncBufRead, ApiError> {
        let request = request
            .body(body)
            .map_err(|error| ApiError::NoAnswer(error.to_string()))?;
        let answer = self.client.request_stream(request).await;
        answer.map_err(|error| match error {
            // A proxy that does not know the path must not look like a missing object.
            kube::Error::Api(status) if status.code == 404 && status.reason == NO_STATUS => {
                let via = self.via();
                let message = format!("status 404{via}, which is not an answer of the API server");
                ApiError::NoAnswer(message)
            }
            kube::Error::Api(status) => ApiError::Refused {
                code: status.code,
                message: status.message,
            },
            error => ApiError::NoAnswer(format!("{}{}", with_cause(&error), self.via())),
        })
    }
}

/// The text of an error with its innermost cause, which says what happened to the connection.
fn with_cause(error: &kube::Error) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    let innermost = std::iter::successors(Some(first), |error| error.source()).last();
    let innermost = innermost.map_or_else(String::new, ToString::to_string);
    let text = error.to_string();
    match text.contains(&innermost) {
        true => text,
        false => format!("{text}: {innermost}"),
    }
}
