//! The headers of a request.

use net::is_set_by_client;
use reqwest::header::{ACCEPT_ENCODING, HOST, HeaderMap, HeaderName, HeaderValue};

use super::task_error::TaskError;
use crate::argo::{HttpTemplate, SecretKeyRef};
use crate::kubernetes::{Kubernetes, KubernetesError, Secret};

/// The headers of a template, with the values of Secrets of the namespace. Values of Secrets are
/// marked as sensitive.
///
/// Headers that only the HTTP client sets are left out, as Go's client leaves out most of them. The
/// exception is `Host`, which names a virtual host.
pub(super) async fn of(
    http: &HttpTemplate,
    namespace: &str,
    kubernetes: &Kubernetes,
) -> Result<HeaderMap, TaskError> {
    let mut headers = HeaderMap::new();
    for header in &http.headers {
        let name = HeaderName::try_from(header.name.as_str()).map_err(|_| {
            TaskError::failed(format!("`{}` cannot be the name of a header", header.name))
        })?;
        let value = match header.secret() {
            Some(secret) => value_of(secret, namespace, kubernetes).await?,
            None => header.value.clone().into_bytes(),
        };
        let mut value = HeaderValue::from_bytes(&value).map_err(|_| {
            TaskError::failed(format!(
                "the value of the header `{name}` has characters that a header cannot have"
            ))
        })?;
        value.set_sensitive(header.secret().is_some());
        if name == HOST {
            headers.insert(name, value);
        } else if !is_set_by_client(&name) {
            headers.append(name, value);
        }
    }
    let identity = HeaderValue::from_static("identity");
    headers.entry(ACCEPT_ENCODING).or_insert(identity);
    Ok(headers)
}

async fn value_of(
    secret: &SecretKeyRef,
    namespace: &str,
    kubernetes: &Kubernetes,
) -> Result<Vec<u8>, TaskError> {
    let SecretKeyRef { name, key, .. } = secret;
    let found = kubernetes.get::<Secret>(namespace, name).await;
    let found = found.map_err(|error| match &error {
        KubernetesError::Unavailable { .. } => TaskError::fault(error.to_string()),
        _ => TaskError::failed(error.to_string()),
    })?;
    let value = found
        .get(key)
        .map_err(|error| TaskError::failed(format!("Secret `{name}`: {error}")))?;
    value
        .map(<[u8]>::to_vec)
        .ok_or_else(|| TaskError::failed(format!("Secret `{name}` has no key `{key}`")))
}
