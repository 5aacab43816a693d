//! Errors about artifacts.

use std::fmt;
use std::io;
use std::sync::Arc;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// Reason of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The store has no object with the key.
    NotFound,
    /// The store denies access, or the key leads out of the store.
    Forbidden,
    /// The store cannot be reached, or fails. A retry may succeed.
    Unavailable,
    /// The store sends data too slowly, and would block other downloads.
    TooSlow,
    /// The configuration of the store or of the artifact is invalid.
    InvalidConfig,
    /// The file or directory in the step's directory cannot be an artifact.
    InvalidFile,
    /// The downloaded data is damaged, or larger than allowed.
    Damaged,
    /// The step's directory cannot be read or written.
    Local,
}

/// An error about one artifact. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

impl Error {
    /// An error without a hint. `message` is a lower-case phrase for users, without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// Adds advice for the user: a lower-case phrase without secrets.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one. The log shows the cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Replaces the message. `self` becomes the cause. The kind and the hint stay.
    #[must_use]
    pub(crate) fn with_message(self, message: impl Into<String>) -> Self {
        Self {
            kind: self.kind,
            message: message.into(),
            hint: self.hint.clone(),
            source: Some(Arc::new(self)),
        }
    }

    /// Replaces the kind.
    #[must_use]
    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// An error of the disk with the step's directory. An `Error` inside of `source` is returned as
    /// it is.
    pub fn local(what: impl fmt::Display, source: io::Error) -> Self {
        source.downcast().unwrap_or_else(|source: io::Error| {
            let kind = match source.kind() {
                io::ErrorKind::InvalidInput => ErrorKind::InvalidFile,
                io::ErrorKind::InvalidData => ErrorKind::Damaged,
                _ => ErrorKind::Local,
            };
            Self::new(kind, format!("{what}: {source}")).caused_by(source)
        })
    }

    /// An error of the disk of a store.
    pub fn store(what: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            // cap-std reports a path that leads out of its directory this way.
            io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            // Another attempt meets the same file or directory.
            io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::DirectoryNotEmpty => ErrorKind::InvalidConfig,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{what}: {source}")).caused_by(source)
    }

    /// An error of a connection. If this program broke the connection off, its own reason replaces
    /// `message`.
    pub(crate) fn connection(
        message: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let error = match Self::find_in(&source) {
            Some(own) => Self {
                source: None,
                ..own.clone()
            },
            None => Self::new(ErrorKind::Unavailable, message),
        };
        error.caused_by(source)
    }

    /// The first `Error` in a chain of causes.
    pub(crate) fn find_in<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// Reason of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Advice for the user, if there is any.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and the hint in one text.
    pub fn describe(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}: {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// Whether a retry of the same request may succeed.
    pub fn retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

/// The error of the HTTP client, with its hint.
impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        let kind = match error.kind() {
            net::ErrorKind::TooSlow => ErrorKind::TooSlow,
            net::ErrorKind::InvalidConfig => ErrorKind::InvalidConfig,
            _ if error.retryable() => ErrorKind::Unavailable,
            _ => ErrorKind::Forbidden,
        };
        let own = Self::new(kind, error.to_string());
        let own = match error.hint() {
            Some(hint) => own.with_hint(hint),
            None => own,
        };
        own.caused_by(error)
    }
}

/// The message without the hint.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
