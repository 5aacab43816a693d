//! Sends requests to the API server.

use std::pin::pin;

use futures::{AsyncBufRead, AsyncReadExt};
use http::request::Builder;

use super::client::Kubernetes;
use super::request::{ApiError, TIMEOUT};

impl Kubernetes {
    /// Sends a request, and reads the answer, which has at most `limit` bytes.
    pub(super) async fn send(
        &self,
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
        let answer = tokio::time::timeout(TIMEOUT, read).await;
        answer.unwrap_or_else(|_| {
            let message = format!("no answer within {TIMEOUT:?}{}", self.via());
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
