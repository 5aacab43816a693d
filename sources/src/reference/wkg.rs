//! References to packages of `wkg`: `wkg:namespace:name@version`

use std::fmt;

use semver::Version;

use super::Reference;
use super::kind::{ReferenceKind, Syntax};
use super::pattern::{Pattern, PatternError};
use crate::{Error, ErrorKind, PullPolicy};

/// A package: its namespace, its name, and its version if the reference has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WkgReference {
    namespace: String,
    name: String,
    version: Option<Version>,
}

impl WkgReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["wkg:"],
        subjects: &["wkg:"],
        parse: |text| {
            let package = text.strip_prefix("wkg:").unwrap_or(text);
            Self::parse(package.trim_start_matches("//")).map(Reference::from)
        },
        check_pattern,
    };

    /// Reads `namespace:name[@version]`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| {
            let shown: String = text.chars().take(200).collect();
            Error::new(
                ErrorKind::InvalidReference,
                format!("`{shown}` is not a package: {why}"),
            )
        };
        let (package, version) = match text.split_once('@') {
            Some((package, version)) => (package, Some(version)),
            None => (text, None),
        };
        let (namespace, name) = package
            .split_once(':')
            .ok_or_else(|| invalid("it must look like `acme:resize@1.4.0`"))?;
        if !is_kebab(namespace) || !is_kebab(name) {
            return Err(invalid(
                "its names must be lower-case words with hyphens between them",
            ));
        }
        let version = version.map(Version::parse).transpose();
        let version = version.map_err(|error| {
            invalid("its version must be exact, such as `1.4.0`").caused_by(error)
        })?;
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version,
        })
    }

    /// The namespace of the package.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name of the package, without its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version. `None` for the newest.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }
}

impl ReferenceKind for WkgReference {
    fn scheme(&self) -> &'static str {
        "wkg"
    }

    fn canonical(&self) -> String {
        format!("wkg:{self}")
    }

    /// `Always` for the newest version of a package.
    fn default_pull_policy(&self) -> PullPolicy {
        match &self.version {
            Some(_) => PullPolicy::IfNotPresent,
            None => PullPolicy::Always,
        }
    }

    fn program_name(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

fn check_pattern(pattern: &Pattern<'_>) -> Result<(), PatternError> {
    if pattern.start.starts_with("wkg:/") {
        return Err(pattern.error("write packages as `wkg:NAMESPACE:NAME`"));
    }
    Ok(())
}

impl fmt::Display for WkgReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.name)?;
        self.version
            .as_ref()
            .map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

/// Whether the text is a name of the component model: `[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*`.
fn is_kebab(text: &str) -> bool {
    text.len() <= 128
        && text.split('-').all(|word| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wkg_references_have_a_namespace_a_name_and_an_exact_version_or_none() {
        for text in ["acme:resize@1.4.0", "wasi:http", "a-b2:c@1.0.0-rc.1"] {
            assert_eq!(WkgReference::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "acme", "acme:", "Acme:x", "a:b/c", "a:../b", "a:b@^1", "a:b@1", "a:-b", "a:b@",
            "a:b:c",
        ] {
            assert!(WkgReference::parse(text).is_err(), "{text}");
        }
    }
}
