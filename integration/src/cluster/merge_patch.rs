//! Merge patches (RFC 7386).

use axum::http::HeaderMap;
use serde_json::{Map, Value};

/// Reads the body of a request that patches an object.
///
/// Not `axum::Json`: the content type of a merge patch is not `application/json`.
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Value {
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    assert_eq!(
        kind,
        Some("application/merge-patch+json"),
        "the content type of a merge patch"
    );
    serde_json::from_slice(body).expect("JSON")
}

/// Applies a merge patch.
pub(super) fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            value => apply(target.entry(key).or_insert(Value::Null), value),
        }
    }
}
