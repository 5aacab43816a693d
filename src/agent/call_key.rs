//! The idempotency key of a call.

use std::fmt;

use sources::Digest;

/// Idempotency key of a call: the digest of the request body.
///
/// The agent sends no id of the node. The body contains the workflow's uid, the inputs, and the
/// template's `id` if it has one, so calls for the same node have the same body. Two nodes with
/// the same inputs have the same body too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(Digest);

impl CallKey {
    /// The key of a request body.
    pub fn of(body: &[u8]) -> Self {
        Self(Digest::of(body))
    }
}

/// The first twelve hex digits: enough to tell calls apart in a log.
impl fmt::Display for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex()[..12])
    }
}
