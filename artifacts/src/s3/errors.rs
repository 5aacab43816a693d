//! What servers say, for a person.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use crate::{Error, ErrorKind};

/// The longest that is shown of a server's own message.
const SHOWN: usize = 200;

/// What went wrong with a request about `what`, such as ``object `a/b` ``.
pub(super) fn explain<E>(what: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let (kind, message) = match &error {
        SdkError::TimeoutError(_) => (
            ErrorKind::Unavailable,
            "the server does not answer in time".to_owned(),
        ),
        SdkError::DispatchFailure(failure) => match failure
            .as_connector_error()
            .and_then(|error| Error::within(error))
        {
            Some(ours) => (ours.kind(), ours.to_string()),
            None if failure.is_timeout() => (
                ErrorKind::Unavailable,
                "the server does not answer in time".to_owned(),
            ),
            None => (ErrorKind::Forbidden, NO_CREDENTIALS.to_owned()),
        },
        SdkError::ResponseError(_) => match Error::within(&error) {
            Some(ours) => (ours.kind(), ours.to_string()),
            None => (
                ErrorKind::Unavailable,
                format!("the answer about {what} broke off, or is none"),
            ),
        },
        answered => {
            let status = answered
                .raw_response()
                .map_or(0, |response| response.status().as_u16());
            let code = answered.code().unwrap_or_default();
            let said: Option<String> = answered.message().map(|said| {
                said.chars()
                    .filter(|c| !c.is_control())
                    .take(SHOWN)
                    .collect()
            });
            let message = match (meaning(code, status, what), said) {
                // These have many reasons, and some servers say which.
                (Some(meaning), Some(said))
                    if matches!(code, "AccessDenied" | "AuthorizationHeaderMalformed") =>
                {
                    format!("{meaning} (it says: {said})")
                }
                (Some(meaning), _) => meaning,
                (None, said) => {
                    let said = said.as_deref().unwrap_or("it gives no reason");
                    format!(
                        "the server answers {} about {what}: {said}",
                        named(code, status)
                    )
                }
            };
            let request = answered
                .request_id()
                .map(|id| format!(" (request {id})"))
                .unwrap_or_default();
            (kind(code, status), message + &request)
        }
    };
    let explained = Error::new(kind, message);
    match error.into_source() {
        Ok(source) => explained.caused_by(source),
        Err(_) => explained,
    }
}

/// Nothing was sent: what is left is that there was nothing to sign with. Why, is in the log.
const NO_CREDENTIALS: &str = "there are no credentials: name `accessKeySecret` and `secretKeySecret`, or give the executor some of its own, such as \
                              AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role";

fn named(code: &str, status: u16) -> String {
    match (code, status) {
        ("", 0) => "something else than S3".to_owned(),
        ("", status) => status.to_string(),
        (code, _) => code.to_owned(),
    }
}

fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        // Somebody removed the upload, or it was finished: the whole of it may go the next time.
        "NoSuchUpload" => ErrorKind::Unavailable,
        // No artifact is missing: an optional one is not, either.
        "NoSuchBucket" => ErrorKind::InvalidConfig,
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" | "Throttling"
        | "OperationAborted" => ErrorKind::Unavailable,
        _ => match status {
            404 => ErrorKind::NotFound,
            // It changed while it was read: the next attempt reads one thing.
            412 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Forbidden,
        },
    }
}

/// What to do about the errors that people meet.
fn meaning(code: &str, status: u16, what: &str) -> Option<String> {
    Some(match (code, status) {
        ("NoSuchKey", _) => format!("there is no {what}"),
        ("NoSuchBucket", _) => "the bucket does not exist: make it, or set `createBucketIfNotPresent`".to_owned(),
        ("AccessDenied" | "AllAccessDisabled", _) | ("", 401 | 403) => {
            format!("access to {what} is denied: these credentials may not do that, or are wrong")
        }
        ("InvalidAccessKeyId" | "NotSignedUp", _) => {
            "the access key is not known to the server: look at `accessKeySecret`, or at the executor's own where the bucket names none".to_owned()
        }
        ("SignatureDoesNotMatch", _) => "the secret key is wrong: look at `secretKeySecret`, or at the executor's own where the bucket names none".to_owned(),
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => {
            "the session token is expired: put a new one into the Secret".to_owned()
        }
        ("InvalidToken", _) => "the session token is not one of these keys: look at `sessionTokenSecret`".to_owned(),
        ("RequestTimeTooSkewed", _) => {
            "the clocks of this machine and of the server differ too much: set them right".to_owned()
        }
        ("PreconditionFailed", _) | ("", 412) => format!("{what} changed while it was read"),
        ("SlowDown" | "Throttling", _) => "the server asks to slow down, and did so again and again".to_owned(),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | ("", 301 | 307) => {
            "the bucket is elsewhere: set its `endpoint` and `region`".to_owned()
        }
        _ => return None,
    })
}
