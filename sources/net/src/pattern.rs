//! Patterns of the operator's rules.

/// Whether `text` matches `pattern`. `*` matches any text, also an empty one and one with slashes.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    // The first occurrence of each part is enough, because `*` matches any text between the parts.
    // Only the last part is bound to a place: the end.
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Whether `text` matches one of the patterns.
pub fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_text() {
        let cases = [
            ("oci://ghcr.io/acme/*", "oci://ghcr.io/acme/a/b:1", true),
            ("oci://ghcr.io/acme/*", "oci://ghcr.io/acmeevil/a:1", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a", "ab", false),
            ("*a", "ba", true),
            ("ab*ba", "aba", false),
            ("", "a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
