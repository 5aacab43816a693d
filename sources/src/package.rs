//! The description of a module: its digest, and the defaults that the package names.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The module in a package, and its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// The digest of the module.
    pub module: Digest,
    /// The defaults that the module is started with.
    pub defaults: Defaults,
}

/// Arguments and environment of a module. The template can override them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Defaults {
    /// The name of the program, `argv[0]`.
    pub program: Option<String>,
    /// Arguments before all others: the `Entrypoint` of an image without its first word.
    pub fixed_args: Vec<String>,
    /// Default arguments: the `Cmd` of an image. Arguments in the template replace them.
    pub args: Vec<String>,
    /// Environment variables, as name and value. Variables in the template override them.
    pub env: Vec<(String, String)>,
}

/// Up to 20 names in backticks, for an error message. `none` if there are no names.
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

/// Whether a file is a module by its name: the extension is `wasm`.
pub(crate) fn is_module_name(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("wasm"))
}
