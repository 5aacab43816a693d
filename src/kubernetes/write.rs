//! Writes of objects: merge patches (RFC 7386), creation and deletion.

use http::Request;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use super::client::{Kubernetes, MAX_OBJECT_BYTES};
use super::request::{ApiError, accepting, collection, path};
use super::resource::{Resource, Stored};

/// The name under which the API server lists the fields that this program sets.
const FIELD_MANAGER: &str = "wasm-workflow-executor";

impl Kubernetes {
    /// Patches an object, and returns the new version of the object. The patch goes to the object
    /// itself, or to a `subresource` such as `status`.
    ///
    /// If the patch has a `metadata.resourceVersion` that is not the version of the object, the
    /// server refuses it with status 409.
    pub async fn patch<T: Resource>(
        &self,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: &impl Serialize,
    ) -> Result<Stored<T>, ApiError> {
        let path = path::<T>(namespace, name)?;
        let subresource = subresource.map_or_else(String::new, |name| format!("/{name}"));
        let request = Request::patch(format!("{path}{subresource}?fieldManager={FIELD_MANAGER}"))
            .header(CONTENT_TYPE, "application/merge-patch+json");
        let body = json(patch)?;
        let request = accepting::<T>(request, false);
        let answer = self.send(request, body, MAX_OBJECT_BYTES).await?;
        Ok(Stored::parse(&answer)?)
    }

    /// Creates an object. `object` has its `metadata.name`. If the object exists, the server
    /// answers with status 409.
    pub async fn create<T: Resource>(
        &self,
        namespace: &str,
        object: &impl Serialize,
    ) -> Result<Stored<T>, ApiError> {
        let path = collection::<T>(Some(namespace))?;
        let request = Request::post(format!("{path}?fieldManager={FIELD_MANAGER}"))
            .header(CONTENT_TYPE, "application/json");
        let request = accepting::<T>(request, false);
        let answer = self.send(request, json(object)?, MAX_OBJECT_BYTES).await?;
        Ok(Stored::parse(&answer)?)
    }

    /// Deletes an object.
    pub async fn delete<T: Resource>(&self, namespace: &str, name: &str) -> Result<(), ApiError> {
        let request = Request::delete(path::<T>(namespace, name)?);
        self.send(request, Vec::new(), MAX_OBJECT_BYTES).await?;
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| ApiError::NoAnswer(format!("no JSON: {error}")))
}
