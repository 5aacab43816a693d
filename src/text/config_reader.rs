//! Reads values that people wrote: the template's `wasm` block and the operator's configuration.
//!
//! The deserializer differs from the one of `serde_json` in four ways:
//!
//! - A key with the value null is absent, as it is for Kubernetes and for Go. A key without a value
//!   is null in YAML.
//! - An error names the path of the value, such as `limits.memory` or `env[1].name`.
//! - An error about an unknown key names the nearest known key.
//! - A number or a boolean may be written as a string, and a string as a number or a boolean. Argo
//!   replaces `{{…}}` inside strings only, so each value from a variable is a string.

use serde::de::value::StringDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde_json::{Map, Value};

use super::document_error::{DocumentError, plain};

/// Deserializes `value`. The paths in errors begin with `root`, the path of `value` itself.
pub fn read<T: DeserializeOwned>(value: &Value, root: &str) -> Result<T, DocumentError> {
    T::deserialize(LenientDeserializer(value)).map_err(|error| {
        if root.is_empty() {
            error
        } else {
            error.below(root)
        }
    })
}

/// A deserializer for one value, with the leniency that this file describes.
struct LenientDeserializer<'a>(&'a Value);

/// Whether an error message quotes a text that it found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QuoteText {
    Yes,
    No,
}

impl LenientDeserializer<'_> {
    fn unexpected<T>(&self, visitor: &dyn de::Expected) -> Result<T, DocumentError> {
        self.unexpected_with(visitor, QuoteText::Yes)
    }

    /// A text in place of a map or a list may be a secret in the wrong place. Use
    /// [`QuoteText::No`] there.
    fn unexpected_with<T>(
        &self,
        visitor: &dyn de::Expected,
        quote: QuoteText,
    ) -> Result<T, DocumentError> {
        let found = match self.0 {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Number(value) => format!("`{value}`"),
            Value::String(value) if quote == QuoteText::Yes => {
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

/// Methods that read a number, also from a string.
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

impl<'de> Deserializer<'de> for LenientDeserializer<'_> {
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
            Value::Object(map) => visitor.visit_map(Entries::of(map)),
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
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::fields(map, fields)),
            // `limits:` without a value is null in YAML, and is read as an empty map.
            Value::Null => visitor.visit_map(Entries::of(&Map::new())),
            _ => self.unexpected_with(&"a map", QuoteText::No),
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
                visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries::of(map)))
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
            Value::Null => visitor.visit_seq(Items {
                items: [].iter().enumerate(),
            }),
            _ => self.unexpected_with(&"a list", QuoteText::No),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::of(&Map::new())),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The items of a list.
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
        seed.deserialize(LenientDeserializer(item))
            .map(Some)
            .map_err(|error| error.below(&format!("[{index}]")))
    }
}

/// The entries of a map, with the value of the key that was read last.
struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a str, &'a Value)>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'a> Entries<'a> {
    /// All entries of a map.
    fn of(map: &'a Map<String, Value>) -> Self {
        let entries = map.iter().map(|(key, value)| (key.as_str(), value));
        Self {
            entries: entries.collect::<Vec<_>>().into_iter(),
            value: None,
        }
    }

    /// The entries of a struct, without `fields` that are null.
    fn fields(map: &'a Map<String, Value>, fields: &[&str]) -> Self {
        let entries = map.iter().map(|(key, value)| (key.as_str(), value));
        let entries = entries.filter(|(key, value)| !value.is_null() || !fields.contains(key));
        Self {
            entries: entries.collect::<Vec<_>>().into_iter(),
            value: None,
        }
    }
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
        let key: StringDeserializer<DocumentError> = key.to_owned().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DocumentError> {
        match self.value.take() {
            Some((key, value)) => seed
                .deserialize(LenientDeserializer(value))
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
    fn numbers_and_booleans_may_be_strings_and_strings_may_be_either() {
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
    fn a_key_with_null_is_absent() {
        let nulls = json!({"count": null, "enabled": null, "label": null, "list": null, "maybe": null, "kind": null, "any": null});
        assert_eq!(read::<Outer>(&nulls, "").unwrap(), Outer::default());
        let kept: Outer = read(&json!({"any": {"a": null}}), "").unwrap();
        assert_eq!(kept.any["a"], json!(null));
        let error = |value: Value| read::<Outer>(&value, "").unwrap_err().to_string();
        assert!(error(json!({"cuont": null})).contains("unknown key `cuont`"));
        assert!(error(json!({"list": [{"name": null}]})).contains("the key `name` is missing"));
    }

    #[test]
    fn errors_name_the_path_and_the_nearest_known_key() {
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
