//! The error of a document.

use std::fmt;

use serde::de;

/// Why a document cannot be read. The text shows keys and types, and no values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Path of the value, such as `layers[0].size`. Empty for the document itself.
    path: String,
    message: String,
}

impl Error {
    fn new(message: String) -> Self {
        Self {
            path: String::new(),
            message,
        }
    }

    /// The text is not JSON.
    pub(crate) fn syntax(error: &serde_json::Error) -> Self {
        Self::new(format!(
            "not JSON, at line {} column {}",
            error.line(),
            error.column()
        ))
    }

    /// The same error, seen from one level above. `segment` is a key, or an index such as `[2]`.
    pub(crate) fn below(mut self, segment: &str) -> Self {
        // The document chooses its keys, so their length is bounded.
        let segment: String = segment.chars().take(100).collect();
        self.path = match self.path.as_str() {
            "" => segment,
            path if path.starts_with('[') => format!("{segment}{path}"),
            path => format!("{segment}.{path}"),
        };
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// A type that rejects a value says why. Such a text is written in this program.
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "expected {}, found {}",
            plain(expected),
            kind(found)
        ))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!(
            "expected {}, found {} that does not fit",
            plain(expected),
            kind(found)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let names: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        Self::new(format!("expected one of {}", names.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the key `{field}` is missing"))
    }
}

/// An expectation in plain words. serde names numbers, structs and enums by their Rust types.
fn plain(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "a string" => "a text",
        "a sequence" => "a list",
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        name if name.starts_with("struct ") => "a map",
        name if name.starts_with("enum ") => "a text",
        other => other,
    };
    words.to_owned()
}

/// The type of a value, without the value.
fn kind(found: de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Bool(_) => "a boolean",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => {
            "a number"
        }
        de::Unexpected::Str(_) | de::Unexpected::Char(_) => "a text",
        de::Unexpected::Unit | de::Unexpected::Option => "null",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Map => "a map",
        _ => "a value",
    }
}
