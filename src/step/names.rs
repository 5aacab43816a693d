//! Names that outputs can have.

/// Longest name of a parameter or an artifact, in bytes.
const LONGEST: usize = 128;

/// The name of the artifact with the module's output. Argo gives this name to the log of a
/// container step. Only the executor makes this artifact.
pub const LOG_ARTIFACT: &str = "main-logs";

/// Whether an output parameter can have this name: 1 to 128 ASCII letters, digits, `-` and `_`, as
/// the full CRD of Argo's `WorkflowTaskSet` requires.
pub fn is_parameter_name(name: &str) -> bool {
    is_name(name, "-_")
}

/// Whether an output artifact can have this name: 1 to 128 ASCII letters, digits, and any of
/// `-_{}.`, as the full CRD of Argo's `WorkflowTaskSet` requires.
///
/// The name must not begin with a dot: the command `run` would write a hidden file.
pub fn is_artifact_name(name: &str) -> bool {
    is_name(name, "-_{}.") && !name.starts_with('.')
}

fn is_name(name: &str, signs: &str) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_argos_patterns() {
        assert!(is_parameter_name("a-b_1"));
        assert!(is_artifact_name("a.{b}"));
        for name in ["", "a b", "ä", "a/b", "a.b"] {
            assert!(!is_parameter_name(name), "{name}");
        }
    }

    #[test]
    fn names_have_a_maximum_length() {
        assert!(is_artifact_name(&"a".repeat(LONGEST)));
        assert!(!is_artifact_name(&"a".repeat(LONGEST + 1)));
    }

    #[test]
    fn an_artifact_name_must_not_begin_with_a_dot() {
        assert!(!is_artifact_name(".bashrc"));
    }
}
