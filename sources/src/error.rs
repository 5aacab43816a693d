//! Errors of resolving and fetching.
//!
//! [`ErrorKind`] says what happened. [`Error::retryable`] says whether the same request may succeed
//! later. The two are separate, because errors of one kind can be permanent or temporary.

use std::fmt;
use std::sync::Arc;

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The reference is malformed.
    InvalidReference,
    /// The operator's configuration or a Secret is invalid.
    InvalidConfig,
    /// This program does not support the request or the content.
    Unsupported,
    /// The module, or a part of it, does not exist.
    NotFound,
    /// The origin requires credentials, or rejects the credentials of the request.
    Unauthorized,
    /// The operator's configuration or the address guard forbids the request.
    Denied,
    /// The origin limits requests: 429.
    RateLimited,
    /// The origin cannot be reached, or it fails.
    Unavailable,
    /// The response or the content of the origin is malformed.
    Protocol,
    /// The content is larger than allowed.
    TooLarge,
    /// The content does not have the expected digest.
    DigestMismatch,
    /// The reference fits more than one module.
    Ambiguous,
    /// The content is not in the store, and the pull policy forbids to fetch it.
    NotStored,
    /// The store on this machine cannot be read or written.
    Store,
}

impl From<net::ErrorKind> for ErrorKind {
    fn from(kind: net::ErrorKind) -> Self {
        match kind {
            net::ErrorKind::InvalidConfig => Self::InvalidConfig,
            net::ErrorKind::Unsupported => Self::Unsupported,
            net::ErrorKind::NotFound => Self::NotFound,
            net::ErrorKind::Unauthorized => Self::Unauthorized,
            net::ErrorKind::Denied => Self::Denied,
            net::ErrorKind::RateLimited => Self::RateLimited,
            net::ErrorKind::Unavailable | net::ErrorKind::TooSlow => Self::Unavailable,
            net::ErrorKind::TooLarge => Self::TooLarge,
            // New kinds of `net::ErrorKind` are about the server's response.
            _ => Self::Protocol,
        }
    }
}

/// Copies kind, message, hint, cause and retryability of the error of a request.
impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind: error.kind().into(),
                message: error.to_string(),
                hint: error.hint().map(str::to_owned),
                retryable: error.retryable(),
                retried: false,
                source: error.cause(),
            }),
        }
    }
}

/// An error about one reference. Cheap to clone: all callers of a single flight get the same error.
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    retryable: bool,
    /// Whether the request was already retried before this error was returned.
    retried: bool,
    source: Option<Cause>,
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
                retried: false,
                source: None,
            }),
        }
    }

    /// A task of this program ended without a result. `what` names the task: `resolving`.
    pub(crate) fn task_ended(what: &str) -> Self {
        Self::new(
            ErrorKind::Store,
            format!(
                "the task for {what} the module ended without a result; this is a defect of this program"
            ),
        )
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

    /// Marks the request as already retried: [`retryable_now`](Self::retryable_now) is then false.
    #[must_use]
    pub(crate) fn already_retried(self) -> Self {
        self.change(|inner| inner.retried = true)
    }

    /// Whether an immediate retry may succeed.
    pub(crate) fn retryable_now(&self) -> bool {
        self.inner.retryable && !self.inner.retried
    }

    /// Puts a context before the message: `after 4 attempts: not found`.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{context}: {}", inner.message))
    }

    /// Puts a text after the message: `not found; TEXT`.
    #[must_use]
    pub(crate) fn followed_by(self, text: &str) -> Self {
        self.change(|inner| inner.message = format!("{}; {text}", inner.message))
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.inner.retryable
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
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("hint", &self.inner.hint)
            .field("retryable", &self.inner.retryable)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as _)
    }
}
