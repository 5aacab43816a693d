//! `manifest`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, Failure, output};
use crate::config::Config;
use crate::kubernetes::is_dns_subdomain;
use crate::text::yaml;

/// What `argo executor-plugin build` makes of the manifests in `plugin/`.
const PLUGIN: &str = include_str!("../../plugin/wasm-executor-plugin-configmap.yaml");
const READ_ONLY_ROOT: &str =
    include_str!("../../plugin/read-only-root/wasm-executor-plugin-configmap.yaml");
const RBAC: &str = include_str!("../../plugin/with-api-access/rbac.yaml");

#[derive(Debug, Args)]
pub(super) struct Manifest {
    /// The controller's namespace, or one with workflows
    #[arg(long, default_value = "argo", value_parser = namespace)]
    namespace: String,
    /// Another image than that of this version
    #[arg(long, value_parser = image)]
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
    /// An environment variable, out of a Secret of the workflows' namespace (repeatable)
    #[arg(long = "env", value_name = "NAME=SECRET/KEY", value_parser = variable)]
    env: Vec<(String, String, String)>,
}

fn namespace(text: &str) -> Result<String, String> {
    if text.contains('.') || text.len() > 63 {
        return Err(
            "it must be the name of a namespace: lower case letters, digits and `-`".to_owned(),
        );
    }
    name(text)
}

fn image(text: &str) -> Result<String, String> {
    let (repository, _) = text.split_once('@').unwrap_or((text, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:/@-".contains(c);
    let name = repository
        .rsplit('/')
        .next()
        .and_then(|last| last.split(':').next())
        .unwrap_or_default();
    let lower = !name.is_empty() && !name.contains(char::is_uppercase);
    match text.chars().all(plain) && lower {
        true => Ok(text.to_owned()),
        false => Err(
            "it must be an image, such as registry.example.com/wasm-workflow-executor:0.1.0"
                .to_owned(),
        ),
    }
}

fn is_variable(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(plain) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn variable(text: &str) -> Result<(String, String, String), String> {
    let parts = text
        .split_once('=')
        .and_then(|(variable, from)| Some((variable, from.split_once('/')?)));
    match parts {
        Some((variable, (secret, key)))
            if is_variable(variable) && is_dns_subdomain(secret) && !key.is_empty() =>
        {
            Ok((variable.to_owned(), secret.to_owned(), key.to_owned()))
        }
        _ => Err(
            "it must look like NAME=SECRET/KEY, such as AWS_ACCESS_KEY_ID=artifacts/accessKey"
                .to_owned(),
        ),
    }
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
        for warning in self.warnings(&config) {
            output::say(&format!("warning: {warning}"));
        }
        let texts = objects
            .iter()
            .map(serde_saphyr::to_string)
            .collect::<Result<Vec<_>, _>>();
        output::data(&texts.map_err(Failure::error)?.join("---\n"));
        Ok(Exit::Succeeded)
    }

    /// What the configuration counts on, and this does not bring along.
    fn warnings(&self, config: &Config) -> Vec<String> {
        let mut warnings = Vec::new();
        let sources = config.sources.credentials.iter();
        for source in sources.flat_map(|credential| {
            credential
                .password_from
                .iter()
                .chain(&credential.token_from)
        }) {
            match (&source.env, &source.file) {
                (Some(name), _) if !self.env.iter().any(|(given, ..)| given == name) => warnings.push(format!(
                    "the configuration reads the environment variable {name}: add --env {name}=SECRET/KEY"
                )),
                (_, Some(file)) => warnings.push(not_mounted(file)),
                _ => {}
            }
        }
        warnings.extend(config.sources.file_root.as_deref().map(not_mounted));
        let secrets = repository_secrets(config);
        if !self.api_access && !secrets.is_empty() {
            warnings.push(format!(
                "the artifact repository names the Secrets {}, which are read with --api-access alone",
                secrets.into_iter().collect::<Vec<_>>().join(", ")
            ));
        }
        if self.image.is_none() {
            warnings.push(
                "no image of this version is published: build one with plugin/image/build, and name it with --image"
                    .to_owned(),
            );
        }
        warnings
    }

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
            env.extend(self.env.iter().map(|(variable, secret, key)| {
                json!({"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
            }));
        }
        data["sidecar.container"] = serde_saphyr::to_string(&container)
            .map_err(Failure::error)?
            .into();
        Ok(plugin)
    }

    fn rbac(&self, config: &Config) -> Result<Vec<Value>, Failure> {
        let mut objects: Vec<Value> = documents(RBAC)?
            .into_iter()
            .map(|object| self.in_namespace(object))
            .collect();
        let of_repository = repository_secrets(config);
        for object in &mut objects {
            for subject in object
                .get_mut("subjects")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                subject["namespace"] = self.namespace.as_str().into();
            }
            for rule in object
                .get_mut("rules")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if rule["resources"] != json!(["secrets"]) {
                    continue;
                }
                if !self.secrets.is_empty() {
                    rule["resourceNames"] = json!(self.secrets);
                }
                if let Some(names) = rule.get_mut("resourceNames").and_then(Value::as_array_mut) {
                    names.extend(of_repository.iter().map(|name| json!(name)));
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

/// The Secrets with the keys of the operator's artifact repository.
fn repository_secrets(config: &Config) -> BTreeSet<String> {
    let Some(s3) = config
        .artifacts
        .repository
        .as_ref()
        .and_then(|repository| repository.s3.as_ref())
    else {
        return BTreeSet::new();
    };
    let customer = s3
        .encryption_options
        .as_ref()
        .and_then(|options| options.server_side_customer_key_secret.as_ref());
    let keys = [
        &s3.access_key_secret,
        &s3.secret_key_secret,
        &s3.session_token_secret,
        &s3.ca_secret,
    ];
    let keys = keys.into_iter().flatten().chain(customer);
    keys.map(|key| key.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}

fn not_mounted(file: &Path) -> String {
    format!(
        "the configuration reads `{}`, and a plugin can mount nothing: it has to be in the image",
        file.display()
    )
}

fn documents(text: &str) -> Result<Vec<Value>, Failure> {
    yaml::documents(text).map_err(Failure::error)
}
