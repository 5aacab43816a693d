//! Requests to the API server: their paths, and why they can fail.

use std::time::Duration;

use http::header::ACCEPT;
use http::request::Builder;

use super::names::is_dns_subdomain;
use super::resource::Resource;

/// Longest wait for the answer to a request.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request to the API server failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server refused the request.
    #[error("the API server answered with status {code}: {message}")]
    Refused {
        /// Status of the answer.
        code: u16,
        /// The server's message. It can quote the object.
        message: String,
    },
    /// The server did not answer.
    #[error("{0}")]
    NoAnswer(String),
    /// The answer is too large.
    #[error("the answer of the API server is larger than {0} bytes")]
    TooLarge(u64),
    /// The answer is not JSON of the expected kind.
    #[error("the answer of the API server cannot be parsed: {0}")]
    Malformed(#[from] go_json::Error),
}

impl ApiError {
    /// Status of the server's answer; `None` if there was no such answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The beginning of a request that is answered with an object of this kind.
pub(super) fn accepting<T: Resource>(request: Builder, list: bool) -> Builder {
    let accept = match (T::METADATA_ONLY, list) {
        (false, _) => "application/json",
        (true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        (true, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    };
    request.header(ACCEPT, accept)
}

/// Path of an object.
///
/// # Errors
///
/// A name cannot be the name of an object, so the object does not exist.
pub(super) fn path<T: Resource>(namespace: &str, name: &str) -> Result<String, ApiError> {
    // The names are put into the path without escaping them.
    if !is_dns_subdomain(namespace) || !is_dns_subdomain(name) {
        return Err(ApiError::Refused {
            code: 404,
            message: format!("`{namespace}/{name}` is not the name of an object"),
        });
    }
    let (api, plural) = (T::API, T::PLURAL);
    Ok(format!("{api}/namespaces/{namespace}/{plural}/{name}"))
}

/// Path of all objects of a kind in a namespace, or in all namespaces.
///
/// # Errors
///
/// The name cannot be the name of a namespace, so the namespace does not exist.
pub(super) fn collection<T: Resource>(namespace: Option<&str>) -> Result<String, ApiError> {
    let (api, plural) = (T::API, T::PLURAL);
    match namespace {
        None => Ok(format!("{api}/{plural}")),
        Some(namespace) if is_dns_subdomain(namespace) => {
            Ok(format!("{api}/namespaces/{namespace}/{plural}"))
        }
        Some(namespace) => Err(ApiError::Refused {
            code: 404,
            message: format!("`{namespace}` is not the name of a namespace"),
        }),
    }
}
