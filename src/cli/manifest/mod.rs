//! `manifest`: the Kubernetes objects that install the plugin, and examples.
//!
//! | file | contents |
//! |---|---|
//! | `command` | the command, and the plugin's ConfigMap |
//! | `cluster` | `manifest cluster` |
//! | `configuration` | the configuration of an installation |
//! | `accounts` | service accounts, token Secrets and Roles |
//! | `resources` | the limits of the container, and the configuration that fits them |
//! | `examples` | `manifest examples` |
//! | `values` | parsers of flags |
//! | `warnings` | everything that the configuration needs and the manifests do not contain |

mod accounts;
mod cluster;
mod command;
mod configuration;
mod examples;
mod resources;
mod values;
mod warnings;

use serde_json::Value;

pub(super) use command::Manifest;

use super::{Exit, Failure, output};
use crate::text::yaml;

fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text).map_err(Failure::error)
}

/// Prints objects as YAML.
fn print(objects: &[Value]) -> Result<Exit, Failure> {
    let texts = objects
        .iter()
        .map(serde_saphyr::to_string)
        .collect::<Result<Vec<_>, _>>();
    output::data(&texts.map_err(Failure::error)?.join("---\n"));
    Ok(Exit::Succeeded)
}
