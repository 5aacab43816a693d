//! YAML as Kubernetes reads it: only `true` and `false` are booleans, so that a parameter may be called `n`, and `0755` is octal.

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

/// The documents in a text. What expands without bound by aliases is refused.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! { strict_booleans: true, legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        // Without the line itself: it may hold a secret, and its number is enough.
        error.render_with_formatter(&UserMessageFormatter)
    })
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
        let twice = documents("a: 1\na: secret\n").unwrap_err();
        assert!(
            twice.contains("line 2") && twice.contains("`a`") && !twice.contains("secret"),
            "{twice}"
        );
    }

    #[test]
    fn aliases_cannot_explode() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text = format!("{text}a{level}: &a{level} [{below}]\n");
        }
        assert!(documents(&text).is_err());
    }
}
