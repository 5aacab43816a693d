//! Sizes and durations as people write them: Kubernetes quantities of bytes, and Go's durations.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: a whole number, optionally with a suffix of Kubernetes. Examples: `256Mi`,
/// `1G`, `1024`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A duration, such as `90s`, `1h30m`, `1.5s` or `500ms`. A number without a unit is a number of
/// seconds, as in Argo's `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

/// Why a text is neither a size nor a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUnitError {
    /// The text is not a number of bytes.
    #[error("`{0}` is not a number of bytes; write it like `256Mi`")]
    Bytes(String),
    /// The text is not a duration.
    #[error("`{0}` is not a duration; write it like `90s` or `1h30m`")]
    Time(String),
}

const BYTE_UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl FromStr for ByteSize {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (digits, factor) = BYTE_UNITS
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
            .unwrap_or((text, 1));
        let number = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse::<u64>().ok())
            .flatten();
        number
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| ParseUnitError::Bytes(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS[..4]
            .iter()
            .rev()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match unit {
            Some((suffix, factor)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Time {
    type Err = ParseUnitError;

    /// Accepts what Go's `time.ParseDuration` accepts, except negative durations, and Argo's
    /// numbers without a unit (`workflow/v1alpha1/utils.go`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseUnitError::Time(text.to_owned());
        let mut rest = text.trim();
        if let Ok(seconds) = rest.parse::<u64>() {
            return Ok(Self(Duration::from_secs(seconds)));
        }
        let mut total = 0.0;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(invalid)?;
            let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
            rest = &rest[end..];
            let end = rest
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(rest.len());
            total += number
                * match &rest[..end] {
                    "h" => 3600.0,
                    "m" => 60.0,
                    "s" => 1.0,
                    "ms" => 1e-3,
                    "us" | "µs" => 1e-6,
                    "ns" => 1e-9,
                    _ => return Err(invalid()),
                };
            rest = &rest[end..];
        }
        if text.trim().is_empty() {
            return Err(invalid());
        }
        Duration::try_from_secs_f64(total)
            .map(Self)
            .map_err(|_| invalid())
    }
}

impl fmt::Display for Time {
    /// Writes Go's format, without the units that are zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let millis = self.0.subsec_millis();
        let hours = seconds / 3600;
        let minutes = seconds / 60 % 60;
        let rest = seconds % 60;
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match (rest, millis) {
            (0, 0) if seconds > 0 => Ok(()),
            (0, millis) if millis > 0 => write!(f, "{millis}ms"),
            (rest, 0) => write!(f, "{rest}s"),
            (rest, millis) => write!(f, "{rest}.{millis:03}s"),
        }
    }
}

/// Implements serde and `JsonSchema` for a type that is read from a number or a string, and written
/// as a string.
macro_rules! amount {
    ($type:ident, $expecting:literal, $from_number:expr, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Amount;
                impl Visitor<'_> for Amount {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        Ok($from_number(number))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Amount)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": $pattern}]})
            }
        }
    };
}

amount!(
    ByteSize,
    "a number of bytes",
    ByteSize,
    r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$|\{\{"
);
amount!(
    Time,
    "a duration",
    |seconds| Time(Duration::from_secs(seconds)),
    r"^([0-9.]+(h|m|s|ms|us|µs|ns))+$|^[0-9]+$|\{\{"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_with_a_suffix() {
        for (text, bytes, printed) in [
            ("256Mi", 256 << 20, "256Mi"),
            ("1G", 1_000_000_000, "1000000000"),
            ("1024", 1024, "1Ki"),
            ("0", 0, "0"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, printed));
        }
        for text in [
            "",
            "Mi",
            "-1",
            "1.5Gi",
            "10 MB",
            "99999999999999999999",
            "99999999Ti",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go_or_seconds() {
        for (text, millis, printed) in [
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1.5s", 1_500, "1.500s"),
            ("500ms", 500, "500ms"),
            ("300", 300_000, "5m"),
            ("0", 0, "0s"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(
                (time.0.as_millis(), time.to_string().as_str()),
                (millis, printed)
            );
        }
        for text in ["", "s", "5 minutes", "-1s", "1d", "1.2.3s", "1e400h"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }
}
