//! The error of a request: its kind, its message, a hint for the reader, and its cause.

use std::fmt;
use std::sync::Arc;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operator's configuration of the client is invalid.
    InvalidConfig,
    /// The server uses a part of HTTP that this client does not support.
    Unsupported,
    /// The server does not have the resource.
    NotFound,
    /// The server requires credentials, or rejects the credentials of the request.
    Unauthorized,
    /// The operator's configuration or the address guard forbids the request.
    Denied,
    /// The server limits requests: 429.
    RateLimited,
    /// The server cannot be reached, or it fails.
    Unavailable,
    /// The server sends less than the minimum rate.
    TooSlow,
    /// The server's response breaks the protocol.
    Protocol,
    /// The response is larger than allowed.
    TooLarge,
}

/// The error of one request. Cheap to clone.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    retryable: bool,
    source: Option<Source>,
}

impl Error {
    /// An error of this kind. `message` is a lower-case fragment without secrets.
    ///
    /// [`ErrorKind::RateLimited`] and [`ErrorKind::Unavailable`] are retryable; other kinds are
    /// not.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable);
        Self {
            inner: Arc::new(Inner {
                kind,
                message: message.into(),
                hint: None,
                retryable,
                source: None,
            }),
        }
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        change(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sets the hint: the reader's next action.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        self.change(|inner| inner.hint = Some(hint.into()))
    }

    /// Sets the cause, which is logged.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Marks the error as not retryable: the same request would fail again.
    #[must_use]
    pub fn permanent(self) -> Self {
        self.change(|inner| inner.retryable = false)
    }

    /// Puts a context before the message: `after 4 attempts: not found`.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{context}: {}", inner.message))
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.inner.retryable
    }

    /// The cause, to be passed on to an error of another type.
    pub fn cause(&self) -> Option<Arc<dyn std::error::Error + Send + Sync>> {
        self.inner.source.clone()
    }

    /// The hint, if the error has one.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as _)
    }
}
