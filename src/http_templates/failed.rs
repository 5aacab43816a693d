//! The error of a request.

/// A task that has failed: the message for the reader of Argo's UI.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed(pub(super) String);

impl From<net::Error> for Failed {
    fn from(error: net::Error) -> Self {
        Self(error.to_string())
    }
}
