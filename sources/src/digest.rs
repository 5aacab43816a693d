//! Content digests in the form of OCI: `algorithm:hex`.
//!
//! Grammar: <https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests>. The two
//! registered algorithms are supported. A digest is validated when it is parsed, so it is safe in a
//! URL and in a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// The hash algorithm of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, 32 bytes. All registries use it.
    Sha256,
    /// SHA-512, 64 bytes. OCI allows it; authors use it in references.
    Sha512,
}

impl Algorithm {
    /// The name of the algorithm, as it is written before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some content: always lower-case hex digits of the right length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            algorithm: Algorithm::Sha256,
            hex: hex::encode(Sha256::digest(bytes)),
        }
    }

    /// The hash algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits after the colon.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The algorithm and the first twelve hex digits, for people who compare digests.
    pub fn short(&self) -> String {
        format!("{}:{}", self.algorithm.name(), &self.hex[..12])
    }

    /// The digest of `bytes` with the algorithm of this digest. It equals this digest if the
    /// content is the same.
    #[must_use]
    pub fn of_same_kind(&self, bytes: &[u8]) -> Self {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// A hasher with the algorithm of this digest.
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The reason why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// The text has no supported algorithm before the colon.
    #[error("`{0}` is not a digest: it must start with `sha256:` or `sha512:`")]
    Algorithm(String),
    /// The text does not have the right number of hex digits.
    #[error("`{0}` is not a digest: {1} needs {2} hex digits")]
    Hex(String, &'static str, usize),
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Upper-case hex digits are accepted and converted to lower case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, digits) = if let Some(digits) = text.strip_prefix("sha256:") {
            (Algorithm::Sha256, digits)
        } else if let Some(digits) = text.strip_prefix("sha512:") {
            (Algorithm::Sha512, digits)
        } else {
            return Err(ParseDigestError::Algorithm(clip(text)));
        };
        let length = algorithm.hex_length();
        if digits.len() != length || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ParseDigestError::Hex(clip(text), algorithm.name(), length));
        }
        Ok(Self {
            algorithm,
            hex: digits.to_ascii_lowercase(),
        })
    }
}

fn clip(text: &str) -> String {
    text.chars().take(160).collect()
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] from bytes as they arrive.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher without bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest {
                algorithm: Algorithm::Sha256,
                hex: hex::encode(hasher.finalize()),
            },
            Self::Sha512(hasher) => Digest {
                algorithm: Algorithm::Sha512,
                hex: hex::encode(hasher.finalize()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_parsed_printed_and_computed() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(digest.short(), "sha256:e3b0c44298fc");
        assert_eq!(digest.hasher().finish(), digest);
    }

    #[test]
    fn upper_case_digits_become_lower_case() {
        let upper = format!("sha256:{}", EMPTY[7..].to_uppercase());
        assert_eq!(upper.parse::<Digest>().unwrap().to_string(), EMPTY);
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in [
            "sha256:../../etc/passwd",
            "sha256:",
            "md5:00",
            "",
            "sha256:e3b0",
            &EMPTY[7..],
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let not_hex = format!("sha256:{}g", "0".repeat(63));
        assert!(matches!(
            not_hex.parse::<Digest>(),
            Err(ParseDigestError::Hex(..))
        ));
    }
}
