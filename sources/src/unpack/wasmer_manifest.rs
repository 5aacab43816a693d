//! The manifest of a WEBC package, as far as this program reads it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The manifest of a WEBC. Unknown keys are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    pub(super) atoms: BTreeMap<String, Atom>,
    pub(super) commands: BTreeMap<String, Command>,
    pub(super) entrypoint: Option<String>,
    pub(super) package: PackageAnnotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Atom {
    /// The digest of the module: `sha256:` and base64.
    pub(super) signature: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PackageAnnotations {
    pub(super) fs: Vec<Mapping>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mapping {
    pub(super) mount_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Command {
    pub(super) runner: String,
    pub(super) annotations: CommandAnnotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CommandAnnotations {
    pub(super) atom: Option<AtomAnnotation>,
    pub(super) wasi: Option<Wasi>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AtomAnnotation {
    pub(super) name: String,
    pub(super) dependency: Option<String>,
}

/// The annotations for the WASI runner. Old packages have underscores in the keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Wasi {
    pub(super) atom: Option<String>,
    pub(super) package: Option<String>,
    pub(super) env: Option<Vec<String>>,
    #[serde(alias = "main_args")]
    pub(super) main_args: Option<Vec<String>>,
    #[serde(alias = "exec_name")]
    pub(super) exec_name: Option<String>,
}
