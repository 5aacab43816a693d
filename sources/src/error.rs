//! What can go wrong between a reference and its bytes.
//!
//! [`ErrorKind`] says what happened, [`Error::retryable`] whether the same request may succeed later: the two are
//! separate, because a server that is down and a server that is overloaded are different kinds with the same remedy.

use std::fmt;
use std::sync::Arc;

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The reference cannot be understood.
    InvalidReference,
    /// The operator's configuration, or a Secret, makes no sense.
    InvalidConfig,
    /// Understood, and not offered.
    Unsupported,
    /// There is no such thing.
    NotFound,
    /// The origin wants credentials, or refuses those it got.
    Unauthorized,
    /// The operator's configuration, or the address guard, forbids it.
    Denied,
    /// The origin asks for patience.
    RateLimited,
    /// The origin cannot be reached or fails.
    Unavailable,
    /// The origin's answer makes no sense.
    Protocol,
    /// Larger than allowed.
    TooLarge,
    /// The bytes are not the ones that were asked for.
    DigestMismatch,
    /// More than one module fits the reference.
    Ambiguous,
    /// Not in the store, and fetching is forbidden by the pull policy.
    NotStored,
    /// The store's own disk failed.
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
            // `net::ErrorKind` may get further kinds. All of them are about the server's response.
            _ => Self::Protocol,
        }
    }
}

/// Keeps kind, message, hint and cause of a request's error, and whether the error is retryable.
impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Self {
            inner: Arc::new(Inner {
                kind: error.kind().into(),
                message: error.to_string(),
                hint: error.remedy().map(str::to_owned),
                retryable: error.retryable(),
                retried: false,
                source: error.cause(),
            }),
        }
    }
}

/// An error about one reference. Cheap to clone: everyone who waited for the same pull gets the same error.
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
    /// An error that repeating the request cannot mend. `message` is a lower-case fragment without secrets.
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

    /// A task of this program ended before it had a result. `what` names its work: `resolving`.
    pub(crate) fn broke_off(what: &str) -> Self {
        Self::new(
            ErrorKind::Store,
            format!("{what} the module broke off; this is a defect of this program"),
        )
    }

    fn change(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        change(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.change(|inner| inner.hint = Some(hint.into()))
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.change(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Says that the same request will not succeed later either.
    #[must_use]
    pub fn permanent(self) -> Self {
        self.change(|inner| inner.retryable = false)
    }

    /// Records that the request was already retried: another retry at once is of no use.
    #[must_use]
    pub(crate) fn already_retried(self) -> Self {
        self.change(|inner| inner.retried = true)
    }

    /// Whether a retry at once may succeed.
    pub(crate) fn retryable_now(&self) -> bool {
        self.inner.retryable && !self.inner.retried
    }

    /// Puts what was being done before the message: `resolving `oci://…`: not found`.
    #[must_use]
    pub fn context(self, context: impl fmt::Display) -> Self {
        self.change(|inner| inner.message = format!("{context}: {}", inner.message))
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.inner.retryable
    }

    /// What the reader can do about it.
    pub fn remedy(&self) -> Option<&str> {
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
