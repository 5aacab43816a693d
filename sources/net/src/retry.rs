//! When a request is sent again, and after which delay.

use std::time::{Duration, SystemTime};

use backon::ExponentialBuilder;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::{Error, Response};

/// The number of times that a request is sent again after its first attempt.
const RETRIES: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// A server that asks for a longer delay gets no further attempt.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The backoff between attempts. The jitter spreads requests that failed together.
pub(crate) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_DELAY)
        .with_max_times(RETRIES)
        .with_jitter()
}

/// An attempt that did not bring a final response.
pub(crate) enum Failure {
    /// The server answered with a status that may pass.
    Status(Box<Response>),
    /// There is no response.
    Error(Error),
}

impl Failure {
    /// Sorts the result of one attempt.
    pub(crate) fn check(result: Result<Response, Error>) -> Result<Response, Self> {
        match result {
            Ok(response) if is_transient(response.status) => Err(Self::Status(Box::new(response))),
            Ok(response) => Ok(response),
            Err(error) => Err(Self::Error(error)),
        }
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Status(_) => true,
            Self::Error(error) => error.retryable(),
        }
    }

    /// The delay before the next attempt: `Retry-After` if the server sent that, else `backoff`.
    /// `None` ends the attempts.
    pub(crate) fn delay(&self, backoff: Option<Duration>) -> Option<Duration> {
        let backoff = backoff?;
        let delay = match self {
            Self::Status(response) => retry_after(&response.headers).unwrap_or(backoff),
            Self::Error(_) => backoff,
        };
        (delay <= LONGEST_RETRY_AFTER).then_some(delay)
    }

    /// The result of the last of `attempts`.
    pub(crate) fn after(self, attempts: u32) -> Result<Response, Error> {
        match self {
            Self::Status(mut response) => {
                response.attempts = attempts;
                Ok(*response)
            }
            Self::Error(error) if error.retryable() => {
                Err(error.context(format_args!("after {attempts} attempts")))
            }
            Self::Error(error) => Err(error),
        }
    }
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// Reads seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |text: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::ZERO),
            "a date in the past"
        );
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_hours(1));
        let later = wait(&date).unwrap();
        assert!(
            later > Duration::from_mins(59) && later > LONGEST_RETRY_AFTER,
            "{later:?}"
        );
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn errors_follow_the_backoff_until_it_ends() {
        let failure = Failure::Error(Error::new(crate::ErrorKind::Unavailable, "down"));
        assert!(failure.is_retryable());
        assert_eq!(failure.delay(Some(FIRST_DELAY)), Some(FIRST_DELAY));
        assert_eq!(failure.delay(None), None);
        let error = failure.after(4).unwrap_err();
        assert_eq!(error.to_string(), "after 4 attempts: down");
    }
}
