//! Prints the manifests of `plugin/`, filled in.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::values::{self, EnvFromSecret};
use super::warnings::{Given, repository_secrets, warnings};
use crate::cli::{Exit, Failure, output};
use crate::config::Config;
use crate::text::yaml;

/// The output of `argo executor-plugin build` for the manifests in `plugin/`.
const PLUGIN: &str = include_str!("../../../plugin/wasm-executor-plugin-configmap.yaml");
const READ_ONLY_ROOT: &str =
    include_str!("../../../plugin/read-only-root/wasm-executor-plugin-configmap.yaml");
const RBAC: &str = include_str!("../../../plugin/with-api-access/rbac.yaml");

#[derive(Debug, Args)]
pub(in crate::cli) struct Manifest {
    /// Namespace of the plugin: the controller's namespace, or a namespace with workflows
    #[arg(long, default_value = "argo", value_parser = values::namespace)]
    namespace: String,
    /// Image of the executor [default: the image of this version]
    #[arg(long, value_parser = values::image)]
    image: Option<String>,
    /// Let the executor read Secrets and Workflows; --namespace must then be the workflows' own namespace
    #[arg(long)]
    api_access: bool,
    /// Secret that the executor may read; repeatable [default: regcred]
    #[arg(long = "secret", value_name = "NAME", requires = "api_access", value_parser = values::name)]
    secrets: Vec<String>,
    /// Make the container's root read-only; every Workflow must then add a volume for /tmp
    #[arg(long)]
    read_only_root: bool,
    /// File with the executor's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Environment variable with a value from a Secret in the workflows' namespace; repeatable
    #[arg(long = "env", value_name = "NAME=SECRET/KEY", value_parser = values::variable)]
    env: Vec<EnvFromSecret>,
}

impl Manifest {
    pub(in crate::cli) fn run(self) -> Result<Exit, Failure> {
        let config = self
            .config
            .as_deref()
            .map(Config::from_file)
            .transpose()
            .map_err(Failure::usage)?;
        let config = config.unwrap_or_default();
        let mut objects = match self.api_access {
            true => self.rbac(&config)?,
            false => Vec::new(),
        };
        objects.push(self.plugin()?);
        let given = Given {
            variables: self.env.iter().map(|env| env.name.as_str()).collect(),
            api_access: self.api_access,
            image: self.image.is_some(),
        };
        for warning in warnings(&config, &given) {
            output::eprint(&format!("warning: {warning}"));
        }
        let texts = objects
            .iter()
            .map(serde_saphyr::to_string)
            .collect::<Result<Vec<_>, _>>();
        output::data(&texts.map_err(Failure::error)?.join("---\n"));
        Ok(Exit::Succeeded)
    }

    /// The ConfigMap of the plugin.
    fn plugin(&self) -> Result<Value, Failure> {
        let text = if self.read_only_root {
            READ_ONLY_ROOT
        } else {
            PLUGIN
        };
        let mut plugin = self.in_namespace(documents(text)?.swap_remove(0));
        if let Some(metadata) = plugin["metadata"].as_object_mut() {
            metadata.remove("creationTimestamp");
        }
        let data = &mut plugin["data"];
        data["sidecar.automountServiceAccountToken"] = self.api_access.to_string().into();
        let mut container =
            documents(data["sidecar.container"].as_str().unwrap_or_default())?.swap_remove(0);
        if let Some(image) = &self.image {
            container["image"] = image.as_str().into();
        }
        if let Some(file) = &self.config {
            let text = std::fs::read_to_string(file).map_err(Failure::error)?;
            container["env"] = json!([{"name": "WASM_WORKFLOW_CONFIG", "value": text}]);
        }
        if let Some(env) = container["env"].as_array_mut() {
            env.extend(self.env.iter().map(|EnvFromSecret { name, secret, key }| {
                json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
            }));
        }
        data["sidecar.container"] = serde_saphyr::to_string(&container)
            .map_err(Failure::error)?
            .into();
        Ok(plugin)
    }

    /// The service account, and its permissions.
    fn rbac(&self, config: &Config) -> Result<Vec<Value>, Failure> {
        let repository_secrets = repository_secrets(config);
        let mut objects: Vec<Value> = documents(RBAC)?
            .into_iter()
            .map(|object| self.in_namespace(object))
            .collect();
        for object in &mut objects {
            for subject in items(object, "subjects") {
                subject["namespace"] = self.namespace.as_str().into();
            }
            let rules = items(object, "rules");
            for rule in rules.filter(|rule| rule["resources"] == json!(["secrets"])) {
                if !self.secrets.is_empty() {
                    rule["resourceNames"] = json!(self.secrets);
                }
                if let Some(names) = rule.get_mut("resourceNames").and_then(Value::as_array_mut) {
                    names.extend(repository_secrets.iter().map(|name| json!(name)));
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

/// The items of a list in an object. None if the object has no such list.
fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text).map_err(Failure::error)
}
