//! What can go wrong with an artifact.

use std::fmt;
use std::io;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is nothing under the key.
    NotFound,
    /// The store refuses, or the key would lead out of it.
    Forbidden,
    /// The store cannot be reached or fails.
    Unavailable,
    /// The store sends so little at a time that it keeps others waiting.
    TooSlow,
    /// What is said of the store cannot be.
    InvalidConfig,
    /// The file or directory in the step's directory is not what an artifact can be.
    InvalidFile,
    /// What came is damaged, or larger than it may be.
    Damaged,
    /// The step's directory cannot be read or written.
    Local,
}

/// An error about one artifact's content.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message for people: a lower-case fragment without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with what it came from.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    /// An error of the step's directory; or the one that made reading or writing it fail.
    pub fn local(what: impl fmt::Display, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => {
                let kind = match source.kind() {
                    io::ErrorKind::InvalidInput => ErrorKind::InvalidFile,
                    io::ErrorKind::InvalidData => ErrorKind::Damaged,
                    _ => ErrorKind::Local,
                };
                Self::new(kind, format!("{what}: {source}")).caused_by(source)
            }
        }
    }

    /// An error of a store's disk.
    pub fn store(what: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            // What cap-std says of a path that leads out.
            io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{what}: {source}")).caused_by(source)
    }

    /// A connection that broke; or the reason, where the program itself broke it off.
    pub(crate) fn broken(
        what: impl Into<String>,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        let error = match Self::within(&cause) {
            Some(own) => Self::new(own.kind, own.message.clone()),
            None => Self::new(ErrorKind::Unavailable, what),
        };
        error.caused_by(cause)
    }

    /// The one of our own that another came from.
    pub(crate) fn within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}
