//! Reading what people wrote: the template's `wasm` block and the operator's configuration.
//!
//! A deserializer of JSON values for people. An error says where, in the document's own path; an unknown key is answered with
//! the nearest known one; and scalars may be written as strings, because Argo's `{{…}}` makes strings of everything.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

/// What is wrong in a document, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    path: String,
    message: String,
    unknown_key: Option<String>,
}

impl DocumentError {
    /// An error at a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            unknown_key: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The key that is not known, if that is what is wrong.
    pub fn unknown_key(&self) -> Option<&str> {
        self.unknown_key.as_deref()
    }

    /// Adds to the message.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    fn below(mut self, segment: &str) -> Self {
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
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}`: {}", self.path, self.message)
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

/// What serde calls by the names of Rust's types.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" => "a whole number, 0 or more".to_owned(),
        "i32" | "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        other => other.to_owned(),
    }
}

/// The known key that was probably meant.
fn nearest<'a>(field: &str, known: &'a [&'a str]) -> Option<&'a str> {
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

/// Reads a value. `root` is where the value itself is, and begins every error's path.
pub fn read<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, DocumentError> {
    T::deserialize(Reader(value)).map_err(|error| {
        if root.is_empty() {
            error
        } else {
            error.below(root)
        }
    })
}

struct Reader<'a>(&'a Value);

impl Reader<'_> {
    fn unexpected<T>(&self, visitor: &dyn de::Expected) -> Result<T, DocumentError> {
        self.unexpected_text(visitor, true)
    }

    /// Where a map or a list should be, a text may be a secret in the wrong place: it is not quoted.
    fn unexpected_text<T>(
        &self,
        visitor: &dyn de::Expected,
        quote: bool,
    ) -> Result<T, DocumentError> {
        let found = match self.0 {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(value) => format!("`{value}`"),
            Value::String(value) if quote => {
                format!("`{}`", value.chars().take(60).collect::<String>())
            }
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
        };
        Err(DocumentError::new(
            "",
            format!("expected {}, found {found}", plain(visitor)),
        ))
    }
}

/// Numbers may be strings.
macro_rules! number {
    ($($method:ident $visit:ident $parse:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
            match self.0 {
                Value::String(text) => match text.trim().parse::<$parse>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => self.unexpected(&visitor),
                },
                Value::Number(_) => self.deserialize_any(visitor),
                _ => self.unexpected(&visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => self.unexpected(&visitor),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            Value::Object(map) => visitor.visit_map(Entries {
                entries: map.iter(),
                value: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) if text == "true" => visitor.visit_bool(true),
            Value::String(text) if text == "false" => visitor.visit_bool(false),
            _ => self.unexpected(&visitor),
        }
    }

    number!(deserialize_i64 visit_i64 i64, deserialize_u64 visit_u64 u64, deserialize_i32 visit_i32 i32,
            deserialize_u32 visit_u32 u32, deserialize_f64 visit_f64 f64);

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(value) => visitor.visit_string(value.to_string()),
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries {
                entries: map.iter(),
                value: None,
            }),
            // `limits:` with nothing after it is an empty block in YAML.
            Value::Null => visitor.visit_map(Entries {
                entries: EMPTY.iter(),
                value: None,
            }),
            _ => self.unexpected_text(&"a map", false),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Object(map) if map.len() == 1 => {
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries {
                    entries: map.iter(),
                    value: None,
                }))
            }
            Value::Object(_) => Err(DocumentError::new("", "expected exactly one key")),
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
            }),
            _ => self.unexpected_text(&"a list", false),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = DocumentError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DocumentError> {
        let Some((index, item)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(item))
            .map(Some)
            .map_err(|error| error.below(&format!("[{index}]")))
    }
}

struct Entries<'a> {
    entries: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = DocumentError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DocumentError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let key: StringDeserializer<DocumentError> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DocumentError> {
        match self.value.take() {
            Some((key, value)) => seed
                .deserialize(Reader(value))
                .map_err(|error| error.below(key)),
            None => Err(DocumentError::new("", "a value without a key")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Outer {
        count: u64,
        enabled: bool,
        label: String,
        list: Vec<Inner>,
        maybe: Option<i64>,
        kind: Kind,
        any: Map<String, Value>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        name: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    enum Kind {
        #[default]
        Always,
        Never,
    }

    #[test]
    fn scalars_may_be_strings_and_back() {
        let value = json!({"count": "5", "enabled": "true", "label": 7, "maybe": "-1", "kind": "Never", "any": {"a": [1]}});
        let outer: Outer = read(&value, "").unwrap();
        assert_eq!(
            (
                outer.count,
                outer.enabled,
                outer.label.as_str(),
                outer.maybe
            ),
            (5, true, "7", Some(-1))
        );
        assert_eq!(outer.kind, Kind::Never);
        assert_eq!(outer.any["a"], json!([1]));
        assert_eq!(read::<Outer>(&json!(null), "").unwrap(), Outer::default());
    }

    #[test]
    fn errors_say_where() {
        let message = |value: Value| read::<Outer>(&value, "root").unwrap_err().to_string();
        assert_eq!(
            message(json!({"cuont": 1})),
            "`root`: unknown key `cuont`; did you mean `count`?"
        );
        assert_eq!(
            message(json!({"list": [{"name": "a"}, {"nmae": "b"}]})),
            "`root.list[1]`: unknown key `nmae`; did you mean `name`?"
        );
        assert_eq!(
            message(json!({"list": [{}]})),
            "`root.list[0]`: the key `name` is missing"
        );
        assert_eq!(
            message(json!({"count": "many"})),
            "`root.count`: expected a whole number, 0 or more, found `many`"
        );
        assert_eq!(
            message(json!({"kind": "Often"})),
            "`root.kind`: `Often` is not one of `Always`, `Never`"
        );
        assert_eq!(
            message(json!({"list": {}})),
            "`root.list`: expected a list, found a map"
        );
        assert!(message(json!({"zzzzzzzz": 1})).contains("known keys are `count`, `enabled`"));
    }
}
