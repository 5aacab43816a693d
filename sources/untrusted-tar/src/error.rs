//! Errors of reading an archive.

use std::io;

use crate::bounds::LimitExceeded;

/// Reason of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The archive is damaged, or its source cannot be read.
    Unreadable,
    /// The archive has more entries than allowed.
    TooManyEntries,
    /// The archive, or its content, has more bytes than allowed.
    TooManyBytes,
    /// The archive expands to more than the allowed multiple of its own size.
    Expansion,
    /// The header of an entry is larger than allowed.
    HeaderTooLarge,
    /// The path of an entry is invalid, or leads out of the archive.
    InvalidPath,
    /// The archive uses an extension that this crate does not know, and that changes the meaning of
    /// an entry.
    Unsupported,
    /// Bytes that are not gzip follow the gzip data.
    TrailingGarbage,
}

/// An archive cannot be read, or breaks a rule.
///
/// `Error` and [`io::Error`] convert into each other without loss, so the `tar` crate does
/// not lose an error of the source.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<&'static str>,
    #[source]
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            source: None,
        }
    }

    /// The archive is damaged, or malformed.
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unreadable, message)
    }

    /// The archive uses an unknown extension. `what` names the extension.
    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        let message = format!("{what}, which is not supported");
        Self::new(ErrorKind::Unsupported, message)
            .with_hint("create the archive with `tar --format=posix`, without incremental or multi-volume options")
    }

    #[must_use]
    pub(crate) fn with_hint(self, hint: &'static str) -> Self {
        Self {
            hint: Some(hint),
            ..self
        }
    }

    /// The archive has more entries than the limit.
    pub fn too_many_entries(LimitExceeded { limit }: LimitExceeded) -> Self {
        let message = format!("the archive has more than {limit} entries");
        Self::new(ErrorKind::TooManyEntries, message)
    }

    /// The archive expands to more bytes than the limit.
    pub fn too_many_bytes(LimitExceeded { limit }: LimitExceeded) -> Self {
        let message = format!("the archive expands to more than {limit} bytes");
        Self::new(ErrorKind::TooManyBytes, message)
    }

    /// Reason of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The hint for the user, if the error has a hint.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(|source: io::Error| Self {
            kind: ErrorKind::Unreadable,
            message: source.to_string(),
            hint: None,
            source: Some(source),
        })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.source {
            Some(source) => source,
            None => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}
