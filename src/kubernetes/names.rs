//! Names of objects.

/// Whether `name` can be the name of a Kubernetes object: a DNS subdomain (RFC 1123).
pub fn is_dns_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_subdomains_are_names_of_objects() {
        for name in ["regcred", "a.b-c", "0"] {
            assert!(is_dns_subdomain(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "ä",
            &"a".repeat(254),
        ] {
            assert!(!is_dns_subdomain(name), "{name}");
        }
    }
}
