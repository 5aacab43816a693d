//! Merge patches (RFC 7386).

use serde_json::{Map, Value};

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
