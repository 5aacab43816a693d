//! `toy://name`: the reference of the test in [`crate::toy`].

use std::fmt;

use super::kind::{ReferenceKind, Syntax};
use super::{Reference, invalid, is_segment};
use crate::Error;

/// A module of the toy source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToyReference {
    name: String,
}

impl ToyReference {
    pub(super) const SYNTAX: Syntax = Syntax {
        prefixes: &["toy://"],
        subjects: &["toy://"],
        parse: |text| Self::parse(text).map(Reference::from),
        check_pattern: |_| Ok(()),
    };

    fn parse(text: &str) -> Result<Self, Error> {
        let name = text.strip_prefix("toy://").unwrap_or(text);
        if !is_segment(name) {
            return Err(invalid(text, "it must look like `toy://name`"));
        }
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// The name of the module.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl ReferenceKind for ToyReference {
    fn scheme(&self) -> &'static str {
        "toy"
    }
}

impl fmt::Display for ToyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
