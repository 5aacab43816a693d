//! Label selectors: `key=value`, `key!=value`, `key`, `!key` and `key notin (a,b)`, separated by
//! commas.

use serde_json::Value;

/// Whether the labels of an object match a selector.
pub fn matches(selector: &str, object: &Value) -> bool {
    let label = |key: &str| object["metadata"]["labels"][key].as_str();
    parts(selector).into_iter().all(|part| {
        if let Some((key, values)) = part.split_once(" notin (") {
            let mut values = values.trim_end_matches(')').split(',');
            label(key).is_none_or(|own| values.all(|value| value != own))
        } else if let Some((key, value)) = part.split_once("!=") {
            label(key) != Some(value)
        } else if let Some((key, value)) = part.split_once('=') {
            label(key) == Some(value)
        } else if let Some(key) = part.strip_prefix('!') {
            label(key).is_none()
        } else {
            label(part).is_some()
        }
    })
}

/// The parts of a selector. A comma between parentheses separates values.
fn parts(selector: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = selector.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.is_empty()).collect()
}
