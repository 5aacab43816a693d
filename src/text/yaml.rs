//! YAML, read as Kubernetes reads it.
//!
//! - Only `true` and `false` are booleans. So `n` and `yes` are strings, and can be names.
//! - A number that begins with `0` is octal: `0755` is 493.

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

/// Why a text is not YAML: a message with the number of the line, without its content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Parses all documents in a text.
///
/// # Errors
///
/// The text is not YAML, has a key twice in one map, or has aliases that expand without bound.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        legacy_octal_numbers: true,
        // A snippet of the text could contain a secret.
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| YamlError(error.render_with_formatter(&UserMessageFormatter)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_true_and_false_are_booleans() {
        assert_eq!(
            documents("{n: yes, a: true}\n---\n3\n").unwrap(),
            [json!({"n": "yes", "a": true}), json!(3)]
        );
        assert_eq!(documents("mode: 0755").unwrap(), [json!({"mode": 493})]);
        assert!(documents("a: [").is_err());
        let twice = documents("a: 1\na: secret\n").unwrap_err().to_string();
        assert!(
            twice.contains("line 2") && twice.contains("`a`") && !twice.contains("secret"),
            "{twice}"
        );
    }

    #[test]
    fn aliases_that_expand_without_bound_are_errors() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text = format!("{text}a{level}: &a{level} [{below}]\n");
        }
        assert!(documents(&text).is_err());
    }
}
