//! Reads calls: checks the token, and limits the body.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::time::timeout;

use super::auth::Auth;
use crate::argo::Reply;
use crate::listener::{Connection, Occurrences};
use crate::step::{Owner, Phase, owner_event};

/// Largest request body. Kubernetes stores no object over about 1.5 MB, so no template is larger.
const MAX_BODY: usize = 4 << 20;
/// Maximum number of bytes that are read of a body above `MAX_BODY`. The executor answers after it
/// has read the body. Otherwise the caller would see a broken connection instead of the answer.
const MAX_DRAINED: usize = 64 << 20;
/// Longest time for a request body. The agent is on the same machine, and ends a call after 30 s.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Delay until the next call, if the body of a call did not arrive in time.
const SLOW_REQUEUE: Duration = Duration::from_secs(1);

/// Reads the calls of callers that are allowed.
#[derive(Debug)]
pub struct CallReader {
    auth: Auth,
    refused_calls: Occurrences,
    slow_calls: Occurrences,
}

impl CallReader {
    /// Reads the calls of these callers.
    pub fn new(auth: Auth) -> Self {
        Self {
            auth,
            refused_calls: Occurrences::new(
                "a call was refused: its token is missing or wrong",
                "more calls were refused: their tokens are missing or wrong",
            ),
            slow_calls: Occurrences::new(
                "a call was postponed: its body did not arrive within 10 s",
                "more calls were postponed: their bodies did not arrive within 10 s",
            ),
        }
    }

    /// Reads the body of a call.
    ///
    /// # Errors
    ///
    /// The caller is not allowed, or the body is too slow or too large. The error is the response.
    pub(super) async fn read(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Bytes, Response> {
        if !self.auth.allows(headers) {
            self.refused_calls.log();
            let message = "the token is missing or wrong\n";
            return Err((StatusCode::FORBIDDEN, message).into_response());
        }
        connection.verify();
        connection.begin_body();
        match timeout(BODY_TIME, read(body, connection)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => {
                let reply = refused(error.to_string(), &Owner::default());
                Err(Json(reply).into_response())
            }
            Err(_) => {
                self.slow_calls.log();
                connection.close_after_response();
                Err(Json(Reply::requeue(SLOW_REQUEUE)).into_response())
            }
        }
    }
}

/// The reply to a request that starts no execution.
pub(super) fn refused(message: String, owner: &Owner) -> Reply {
    owner_event!(INFO, owner, phase = %Phase::Error, reason = message, "request refused");
    Reply::error(message)
}

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the request body could not be read: {0}")]
    Read(#[source] axum::Error),
    #[error("the request is larger than {} MiB; pass large values as artifacts", MAX_BODY >> 20)]
    TooLarge,
}

/// Reads a body. The table of connections may close the connection meanwhile, if there are too many
/// connections, or if all bodies together are too large.
async fn read(body: Body, connection: &Connection) -> Result<Bytes, BodyError> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::new();
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(BodyError::Read)?;
        total += chunk.len();
        if total <= MAX_BODY {
            bytes.extend_from_slice(&chunk);
            connection.hold(bytes.capacity());
        } else if total > MAX_DRAINED {
            break;
        } else {
            bytes = BytesMut::new();
            connection.hold(0);
        }
    }
    match total > MAX_BODY {
        true => Err(BodyError::TooLarge),
        false => Ok(bytes.freeze()),
    }
}
