//! What comes with a module: packages name the program and what it is started with.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// What was found in what a reference names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// The module.
    pub module: Digest,
    /// What it is started with.
    pub defaults: Defaults,
}

/// What a module is started with unless its template says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Defaults {
    /// `argv[0]`.
    pub program: Option<String>,
    /// Arguments that always come first: the rest of an image's `Entrypoint`.
    pub fixed_args: Vec<String>,
    /// Arguments that the template's replace: an image's `Cmd`.
    pub args: Vec<String>,
    /// Environment variables, below the template's.
    pub env: Vec<(String, String)>,
}

/// Names for a person who has to choose.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names = names
        .take(20)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.is_empty() {
        "none".to_owned()
    } else {
        names
    }
}

/// Whether a file's name says that it is a module.
pub(crate) fn is_module_name(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("wasm"))
}
