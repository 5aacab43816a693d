//! JSON of other programs, read as Go's `encoding/json` reads it.
//!
//! Docker, registries, Kubernetes and Argo are written in Go. Their documents follow the rules of
//! <https://pkg.go.dev/encoding/json#Unmarshal>, and so do the documents that people write for
//! them:
//!
//! - `null` is absence: a field with `null` has its default. `null` in a list or as the value of a
//!   map is the zero value of its type, such as an empty text.
//! - The key of a field may have another case. The exact key wins.
//! - Unknown keys are ignored. Of two equal keys, the last one wins.
//! - Bytes that are not UTF-8 are replaced.
//!
//! A value of the wrong type is an error. [`Error`] names the path and the types, and shows no
//! content, because the content may be secret.
//!
//! ```
//! #[derive(serde::Deserialize)]
//! struct Entry {
//!     #[serde(default)]
//!     auth: String,
//! }
//! let entry: Entry = go_json::from_slice(br#"{"Auth": "x", "email": null}"#).unwrap();
//! assert_eq!(entry.auth, "x");
//! let entry: Entry = go_json::from_slice(br#"{"auth": null}"#).unwrap();
//! assert_eq!(entry.auth, "");
//! ```

mod deserializer;
mod error;

use serde::de::DeserializeOwned;
use serde_json::Value;

use deserializer::GoDeserializer;

pub use error::Error;

/// Parses one JSON document.
///
/// # Errors
///
/// The text is not JSON, or a value has the wrong type.
pub fn from_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    let text = String::from_utf8_lossy(json);
    let value: Value = serde_json::from_str(&text).map_err(|error| Error::syntax(&error))?;
    from_value(&value)
}

/// Reads a value that is parsed already.
///
/// # Errors
///
/// A value has the wrong type.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(GoDeserializer(value))
}

#[cfg(test)]
mod tests;
