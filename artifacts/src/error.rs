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
    /// The file or directory in the step's directory is not what an artifact can be.
    InvalidFile,
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
    source: Option<io::Error>,
}

impl Error {
    /// An error with a message for people: a lower-case fragment without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error of the step's directory.
    pub fn local(what: impl fmt::Display, source: io::Error) -> Self {
        Self { kind: ErrorKind::Local, message: format!("{what}: {source}"), source: Some(source) }
    }

    /// An error of a store's disk.
    pub fn store(what: impl fmt::Display, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            // What cap-std says of a path that leads out.
            io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
            _ => ErrorKind::Unavailable,
        };
        Self { kind, message: format!("{what}: {source}"), source: Some(source) }
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
