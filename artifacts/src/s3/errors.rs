//! Explains errors of the SDK to users.

use std::error::Error as StdError;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;

use crate::{Error, ErrorKind};

/// Longest part of a server's own message that is shown, in characters.
const SHOWN: usize = 200;

/// Converts the error of a request about `what`, such as ``object `a/b` ``.
pub(super) fn explain<E>(what: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let explained = match &error {
        SdkError::TimeoutError(_) => timed_out(),
        SdkError::DispatchFailure(failure) => {
            let own = failure.as_connector_error().and_then(|error| {
                let error: &(dyn StdError + 'static) = error;
                Error::find_in(error)
            });
            match own {
                Some(own) => own.clone(),
                None if failure.is_timeout() => timed_out(),
                // The request was not sent, because there was nothing to sign it with. The log has
                // the reason.
                None => no_credentials(),
            }
        }
        SdkError::ResponseError(_) => Error::find_in(&error).cloned().unwrap_or_else(|| {
            let message = format!("the response about {what} is incomplete or invalid");
            Error::new(ErrorKind::Unavailable, message)
        }),
        answered => answer(what, answered),
    };
    match error.into_source() {
        Ok(source) => explained.caused_by(source),
        Err(_) => explained,
    }
}

fn timed_out() -> Error {
    let message = "the server does not answer in time";
    Error::new(ErrorKind::Unavailable, message)
}

fn no_credentials() -> Error {
    Error::new(ErrorKind::Forbidden, "no credentials are available for the bucket").with_hint(
        "name `accessKeySecret` and `secretKeySecret`, or give the executor credentials of its own, \
         such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role",
    )
}

/// The error that a server answered with.
fn answer<E>(what: &str, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default();
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    let reported: Option<String> = error.message().map(|message| {
        message
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN)
            .collect()
    });
    let Meaning { mut message, hint } = meaning(code, status, what).unwrap_or_else(|| Meaning {
        message: format!(
            "the server answers {} about {what}: {}",
            code_or_status(code, status),
            reported.as_deref().unwrap_or("it gives no reason")
        ),
        hint: None,
    });
    // These codes have many reasons, and some servers name the reason.
    if matches!(code, "AccessDenied" | "AuthorizationHeaderMalformed")
        && let Some(reported) = reported
    {
        message = format!("{message} (the server says: {reported})");
    }
    if let Some(id) = error.request_id() {
        message = format!("{message} (request {id})");
    }
    let explained = Error::new(kind(code, status), message);
    match hint {
        Some(hint) => explained.with_hint(hint),
        None => explained,
    }
}

fn code_or_status(code: &str, status: u16) -> String {
    match (code, status) {
        ("", 0) => "something other than S3".to_owned(),
        ("", status) => status.to_string(),
        (code, _) => code.to_owned(),
    }
}

fn kind(code: &str, status: u16) -> ErrorKind {
    match code {
        "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        // Not `NotFound`: an optional artifact is not missing because the bucket is.
        "NoSuchBucket" => ErrorKind::InvalidConfig,
        // `NoSuchUpload`: another request has ended the upload. A new upload may succeed.
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "RequestTimeout" | "Throttling"
        | "OperationAborted" | "NoSuchUpload" => ErrorKind::Unavailable,
        _ => match status {
            404 => ErrorKind::NotFound,
            // 412: the object changed during the download. The next attempt reads the new object.
            412 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Forbidden,
        },
    }
}

/// Message and hint for a known error.
struct Meaning {
    message: String,
    hint: Option<&'static str>,
}

/// Explains the errors that users meet, such as: there is no object `a/b`.
fn meaning(code: &str, status: u16, what: &str) -> Option<Meaning> {
    let (message, hint) = match (code, status) {
        ("NoSuchKey", _) => (format!("there is no {what}"), None),
        ("NoSuchBucket", _) => (
            "the bucket does not exist".to_owned(),
            Some("create it, or set `createBucketIfNotPresent`"),
        ),
        ("AccessDenied" | "AllAccessDisabled", _) | ("", 401 | 403) => (
            format!("access to {what} is denied: the credentials are wrong, or have no permission"),
            None,
        ),
        ("InvalidAccessKeyId" | "NotSignedUp", _) => (
            "the access key is not known to the server".to_owned(),
            Some("check `accessKeySecret`, or the executor's own keys if the bucket names none"),
        ),
        ("SignatureDoesNotMatch", _) => (
            "the secret key is wrong".to_owned(),
            Some("check `secretKeySecret`, or the executor's own keys if the bucket names none"),
        ),
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => (
            "the session token is expired".to_owned(),
            Some("put a new token into the Secret"),
        ),
        ("InvalidToken", _) => (
            "the session token does not belong to the access key".to_owned(),
            Some("check `sessionTokenSecret`"),
        ),
        ("RequestTimeTooSkewed", _) => (
            "the clocks of this machine and of the server differ too much".to_owned(),
            Some("correct the clocks"),
        ),
        ("PreconditionFailed", _) | ("", 412) => {
            (format!("{what} changed while it was read"), None)
        }
        ("SlowDown" | "Throttling", _) => (
            "the server limits requests, and all retries failed".to_owned(),
            None,
        ),
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | ("", 301 | 307) => (
            "the bucket is in another region".to_owned(),
            Some("set its `endpoint` and `region`"),
        ),
        _ => return None,
    };
    Some(Meaning { message, hint })
}
