//! The parts of credentials that are not used, in the errors of requests that needed them.

use super::Keyring;
use crate::{Error, ErrorKind};

/// Number of reasons that an error shows.
const MAX_SHOWN: usize = 5;

/// Adds to the error of a refused request which credentials for `target`, `host[:port]/path`, were
/// not used, and why. A server may answer 404 instead of 401 if the user may not see the resource.
pub(crate) fn explain(error: Error, keyrings: &[Keyring], target: &str) -> Error {
    if !matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::NotFound) {
        return error;
    }
    let mut reasons: Vec<String> = Vec::new();
    for reason in keyrings.iter().flat_map(|keyring| keyring.missing(target)) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.truncate(MAX_SHOWN);
    match reasons.is_empty() {
        true => error,
        false => error.followed_by(&reasons.join("; ")),
    }
}
