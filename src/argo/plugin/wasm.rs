//! The whole `plugin.wasm` block.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sources::{Error, Reference};

use super::container_keys;
use super::env::EnvVar;
use super::limits::RequestedLimits;
use super::module::ModuleSpec;
use super::permissions::{self, Permissions};
use super::pull::Pull;
use super::result::ResultFormat;
use crate::text::{DocumentError, config_reader};

const PATH: &str = "template.plugin.wasm";

/// `plugin.wasm`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wasm {
    /// The module: a URI, or a map with one key for the kind of its source.
    pub(in crate::argo) module: ModuleSpec,
    /// How the module is fetched.
    #[serde(default)]
    pub(in crate::argo) pull: Pull,
    /// Arguments of the module, without the program's name. They replace those of the package.
    pub args: Option<Vec<String>>,
    /// Environment variables of the module, in addition to those of the package.
    #[serde(default)]
    pub(in crate::argo) env: Vec<EnvVar>,
    /// Standard input of the module.
    pub stdin: Option<String>,
    /// Access beyond the module's own directory. The operator has to allow it too.
    #[serde(default)]
    pub(in crate::argo) permissions: Permissions,
    /// Limits of the module. They can be lower than the operator's limits, but not higher.
    #[serde(default)]
    pub(in crate::argo) limits: RequestedLimits,
    /// Data for the module, in any form.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// The form of the step's `outputs.result`.
    #[serde(default)]
    pub result: ResultFormat,
    /// A text that distinguishes this execution from others with the same inputs, such as
    /// `{{node.name}}/{{retries}}`.
    pub id: Option<String>,
}

/// Parses the block.
///
/// # Errors
///
/// A key is unknown or missing, or a value has the wrong type.
pub fn read(wasm: &Value) -> Result<Wasm, DocumentError> {
    config_reader::read(wasm, PATH).map_err(|error| explain(wasm, error))
}

/// Adds to the error what the author of the template can do.
fn explain(wasm: &Value, error: DocumentError) -> DocumentError {
    let key = match error.path().strip_prefix(PATH) {
        Some(path) => path.trim_start_matches('.').to_owned(),
        None => return error,
    };
    // A permission is refused as a whole, so its own keys and values need no correction.
    if let Some(name) = permissions::name(&key) {
        return unsupported_permission(name);
    }
    if let Some(unknown) = error.unknown_key().filter(|_| key.is_empty()) {
        let hint = container_keys::replacement(unknown);
        return error.with_hint(
            hint.unwrap_or("if the module reads it as an option, move it under `options`"),
        );
    }
    match key.as_str() {
        "module" if wasm.pointer("/module/file").is_some() => {
            error.with_hint("a module in a file is `module: file:///ABSOLUTE/PATH`")
        }
        "module.http.authSecret" if error.unknown_key().is_none() => {
            error.with_hint("write it like `authSecret: {name: SECRET}`")
        }
        key if key.starts_with("pull.secrets") && error.unknown_key().is_none() => {
            error.with_hint("write it like `secrets: [{name: SECRET}]`")
        }
        "args" => error.with_hint("write it like `args: [first, second]`"),
        "env" => error.with_hint("write it like `env: [{name: NAME, value: VALUE}]`"),
        _ => error,
    }
}

fn unsupported_permission(name: &str) -> DocumentError {
    DocumentError::new(
        format!("{PATH}.permissions.{name}"),
        "not supported by this version",
    )
}

impl Wasm {
    /// The reference of the module.
    pub(in crate::argo) fn reference(&self) -> Result<Reference, Error> {
        self.module.reference()
    }

    /// Names of the Secrets with credentials for the module's origin.
    pub(in crate::argo) fn secrets(&self) -> Result<Vec<String>, DocumentError> {
        let auth = self
            .module
            .auth_secret()
            .map(|secret| secret.checked(&format!("{PATH}.module.http.authSecret")));
        let pull = self.pull.secrets.iter().enumerate();
        let pull =
            pull.map(|(index, secret)| secret.checked(&format!("{PATH}.pull.secrets[{index}]")));
        auth.into_iter().chain(pull).collect()
    }

    /// Refuses keys that this version does not support. A step that ignored them could succeed with
    /// the wrong result.
    pub(in crate::argo) fn check_supported(&self) -> Result<(), DocumentError> {
        if let Some(permission) = self.permissions.requested() {
            return Err(unsupported_permission(permission));
        }
        match self.limits.impossible() {
            Some(limit) => Err(DocumentError::new(
                format!("{PATH}.limits.{}", limit.key),
                limit.rule,
            )),
            None => Ok(()),
        }
    }

    /// Names and values of the environment variables.
    pub(in crate::argo) fn environment(&self) -> Result<Vec<(String, String)>, DocumentError> {
        self.env
            .iter()
            .enumerate()
            .map(|(index, variable)| variable.checked(&format!("{PATH}.env[{index}]")))
            .collect()
    }
}
