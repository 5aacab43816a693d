//! `manifest`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, Failure, output};
use crate::config::Config;
use crate::kubernetes::is_dns_subdomain;
use crate::yaml;

/// What `argo executor-plugin build` makes of the manifests in `plugin/`.
const PLUGIN: &str = include_str!("../../plugin/wasm-executor-plugin-configmap.yaml");
const READ_ONLY_ROOT: &str = include_str!("../../plugin/read-only-root/wasm-executor-plugin-configmap.yaml");
const RBAC: &str = include_str!("../../plugin/with-api-access/rbac.yaml");

#[derive(Debug, Args)]
pub(super) struct Manifest {
    /// The controller's namespace, or one with workflows
    #[arg(long, default_value = "argo", value_parser = name)]
    namespace: String,
    /// Another image than that of this version
    #[arg(long)]
    image: Option<String>,
    /// Let the executor read Secrets and Workflows of the namespace, which then has to be the workflows' own
    #[arg(long)]
    api_access: bool,
    /// A Secret that it may read (repeatable) [default: regcred]
    #[arg(long = "secret", value_name = "NAME", requires = "api_access", value_parser = name)]
    secrets: Vec<String>,
    /// Let it write nothing but a volume, which every Workflow then has to add
    #[arg(long)]
    read_only_root: bool,
    /// The executor's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn name(text: &str) -> Result<String, String> {
    match is_dns_subdomain(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("it must be the name of an object of Kubernetes: lower case letters, digits, `-` and `.`".to_owned())
        }
    }
}

impl Manifest {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut objects = match self.api_access {
            true => self.rbac()?,
            false => Vec::new(),
        };
        objects.push(self.plugin()?);
        let texts = objects.iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>();
        output::data(&texts.map_err(Failure::error)?.join("---\n"));
        Ok(Exit::Succeeded)
    }

    fn plugin(&self) -> Result<Value, Failure> {
        let text = if self.read_only_root { READ_ONLY_ROOT } else { PLUGIN };
        let mut plugin = self.in_namespace(documents(text)?.swap_remove(0));
        if let Some(metadata) = plugin["metadata"].as_object_mut() {
            metadata.remove("creationTimestamp");
        }
        let data = &mut plugin["data"];
        data["sidecar.automountServiceAccountToken"] = self.api_access.to_string().into();
        let mut container = documents(data["sidecar.container"].as_str().unwrap_or_default())?.swap_remove(0);
        if let Some(image) = &self.image {
            container["image"] = image.as_str().into();
        }
        if let Some(file) = &self.config {
            Config::from_file(file).map_err(Failure::usage)?;
            let text = std::fs::read_to_string(file).map_err(Failure::error)?;
            container["env"] = json!([{"name": "WASM_WORKFLOW_CONFIG", "value": text}]);
        }
        data["sidecar.container"] = serde_saphyr::to_string(&container).map_err(Failure::error)?.into();
        Ok(plugin)
    }

    fn rbac(&self) -> Result<Vec<Value>, Failure> {
        let mut objects: Vec<Value> = documents(RBAC)?.into_iter().map(|object| self.in_namespace(object)).collect();
        for object in &mut objects {
            for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
                subject["namespace"] = self.namespace.as_str().into();
            }
            for rule in object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
                if rule["resources"] == json!(["secrets"]) && !self.secrets.is_empty() {
                    rule["resourceNames"] = json!(self.secrets);
                }
            }
        }
        Ok(objects)
    }

    fn in_namespace(&self, mut object: Value) -> Value {
        object["metadata"]["namespace"] = self.namespace.as_str().into();
        object
    }
}

fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text).map_err(Failure::error)
}
