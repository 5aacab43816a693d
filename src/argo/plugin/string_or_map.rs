//! Deserialization of keys whose value is a string or a map.

/// Implements `Deserialize` for an enum with one variant for a string and one for a map.
macro_rules! string_or_map {
    ($type:ident, $string:ident, $map:expr, $expecting:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StringOrMap;
                impl<'de> serde::de::Visitor<'de> for StringOrMap {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E>(self, text: &str) -> Result<$type, E> {
                        Ok($type::$string(text.to_owned()))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$type, A::Error> {
                        serde::Deserialize::deserialize(
                            serde::de::value::MapAccessDeserializer::new(map),
                        )
                        .map($map)
                    }
                }
                deserializer.deserialize_any(StringOrMap)
            }
        }
    };
}

pub(super) use string_or_map;
