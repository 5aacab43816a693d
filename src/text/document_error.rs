//! An error in a document that a person wrote.

use std::fmt;

use serde::de;

/// A mistake in a document: the path of the key, the message, and a hint if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    path: String,
    message: String,
    hint: Option<&'static str>,
    unknown_key: Option<String>,
}

impl DocumentError {
    /// An error at a path such as `limits.memory`. The path of the document itself is empty.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            hint: None,
            unknown_key: None,
        }
    }

    /// Adds a hint: what the author of the document can do.
    #[must_use]
    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same error at another path.
    #[must_use]
    pub fn with_path(self, path: String) -> Self {
        Self { path, ..self }
    }

    /// The hint, if the error has one.
    pub fn hint(&self) -> Option<&str> {
        self.hint
    }

    /// Path of the value that has the mistake. For an unknown key, the path of the map around it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key, if the mistake is a key that the document may not have.
    pub fn unknown_key(&self) -> Option<&str> {
        self.unknown_key.as_deref()
    }

    /// The same error, with the path seen from one level above: `segment` is a key, or an index
    /// such as `[2]`.
    pub(super) fn below(mut self, segment: &str) -> Self {
        self.path = match self.path.as_str() {
            "" => segment.to_owned(),
            path if path.starts_with('[') => format!("{segment}{path}"),
            path => format!("{segment}.{path}"),
        };
        self
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match self.hint() {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DocumentError {}

impl de::Error for DocumentError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new("", message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = match nearest(field, expected) {
            Some(known) => format!("unknown key `{field}`; did you mean `{known}`?"),
            None => format!("unknown key `{field}`; known keys are {}", quoted(expected)),
        };
        Self {
            unknown_key: Some(field.to_owned()),
            ..Self::new("", message)
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(
            "",
            format!("`{variant}` is not one of {}", quoted(expected)),
        )
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("", format!("the key `{field}` is missing"))
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new("", format!("expected {}, found {found}", plain(expected)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new("", format!("expected {}, found {found}", plain(expected)))
    }
}

/// An expectation in plain words. serde names numbers by their Rust types.
pub(super) fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => "a whole number, 0 or more".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        other => other.to_owned(),
    }
}

/// The known key that is spelt most like `field`, if one is close enough to be a misspelling.
pub(crate) fn nearest<'a>(field: &str, known: &'a [&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let distance = |key: &str| strsim::damerau_levenshtein(&plain(field), &plain(key));
    let best = known.iter().min_by_key(|key| distance(key))?;
    (distance(best) <= 1 + best.len() / 4).then_some(*best)
}

fn quoted(keys: &[&str]) -> String {
    keys.iter()
        .map(|key| format!("`{key}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
