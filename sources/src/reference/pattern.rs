//! Checks the patterns of the operator's policy.
//!
//! A pattern that no reference can match has no effect. It is almost always a mistake, so it is an
//! error.

use super::SYNTAXES;

/// A pattern that no reference can match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` matches no reference: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

/// A pattern and its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern<'a> {
    pub(super) text: &'a str,
    /// The text before the first `*`.
    pub(super) start: &'a str,
}

impl<'a> Pattern<'a> {
    fn new(text: &'a str) -> Self {
        let start = text.split('*').next().unwrap_or_default();
        Self { text, start }
    }

    /// Whether the pattern has no `*`.
    pub(super) fn is_whole(&self) -> bool {
        self.start.len() == self.text.len()
    }

    /// The text from the first `*` on.
    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.start.len()..]
    }

    /// The error for this pattern.
    pub(super) fn error(&self, reason: impl Into<String>) -> PatternError {
        PatternError {
            pattern: self.text.to_owned(),
            reason: reason.into(),
        }
    }

    /// Whether the pattern can match a policy subject that begins with `subject`.
    fn fits(&self, subject: &str) -> bool {
        let Some((scheme, _)) = subject.split_once("HOST//") else {
            return self.start.starts_with(subject)
                || (!self.is_whole() && subject.starts_with(self.start));
        };
        // A reference that names its server: `scheme:HOST//name`.
        let host = self.start.strip_prefix(scheme);
        host.filter(|host| !host.starts_with('/'))
            .is_some_and(|host| host.contains("//") || (!self.is_whole() && !host.contains('/')))
    }
}

/// Checks that a reference can match the pattern.
pub fn check_pattern(text: &str) -> Result<(), PatternError> {
    let pattern = Pattern::new(text);
    let subjects = || SYNTAXES.iter().flat_map(|syntax| syntax.subjects.iter());
    if !subjects().any(|subject| pattern.fits(subject)) {
        let subjects: Vec<&str> = subjects().copied().collect();
        return Err(pattern.error(format!("references begin with {}", subjects.join(", "))));
    }
    if text.contains('#') {
        return Err(pattern.error(
            "a pattern cannot contain `#`: the part of a reference after `#` is not compared",
        ));
    }
    SYNTAXES
        .iter()
        .try_for_each(|syntax| (syntax.check_pattern)(&pattern))
}
