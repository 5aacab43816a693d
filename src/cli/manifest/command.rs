//! Prints the manifests of `plugin/`, filled in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cluster::ClusterInstallation;
use super::configuration::Configuration;
use super::examples::Examples;
use super::resources::Resources;
use super::values::{self, EnvFromSecret};
use super::warnings::{Given, repository_secrets, warnings};
use super::{accounts, documents, print};
use crate::cli::{Exit, Failure, output};
use crate::config::Config;

/// The output of `argo executor-plugin build` for the manifests in `plugin/`.
const PLUGIN: &str = include_str!("../../../plugin/wasm-executor-plugin-configmap.yaml");
const READ_ONLY_ROOT: &str =
    include_str!("../../../plugin/read-only-root/wasm-executor-plugin-configmap.yaml");

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Manifest {
    #[command(subcommand)]
    command: Option<ManifestCommand>,
    #[command(flatten)]
    installation: Installation,
}

#[derive(Debug, Subcommand)]
enum ManifestCommand {
    /// Print the objects of one executor for the whole cluster
    Cluster(Box<ClusterInstallation>),
    /// Print example Workflows, with their modules in your registry
    Examples(Examples),
}

impl Manifest {
    pub(in crate::cli) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Some(ManifestCommand::Cluster(cluster)) => cluster.run(),
            Some(ManifestCommand::Examples(examples)) => Ok(examples.run()),
            None => self.installation.run(),
        }
    }
}

#[derive(Debug, Args)]
struct Installation {
    /// Namespace of the plugin: the controller's namespace, or a namespace with workflows
    #[arg(long, default_value = "argo", value_parser = values::namespace)]
    namespace: String,
    /// Namespace with workflows; repeatable; several need the plugin in the controller's namespace [default: the plugin's namespace]
    #[arg(long = "workflow-namespace", value_name = "NAMESPACE", value_parser = values::namespace)]
    workflow_namespaces: Vec<String>,
    /// Service account of the workflows, their `serviceAccountName`; repeatable
    #[arg(long = "workflow-account", value_name = "ACCOUNT", default_value = accounts::DEFAULT_ACCOUNT, value_parser = values::name)]
    workflow_accounts: Vec<String>,
    /// Image of the executor [default: the image of this version]
    #[arg(long, value_parser = values::image)]
    image: Option<String>,
    #[command(flatten)]
    resources: Resources,
    /// Let the executor read Secrets and Workflows in the namespaces with workflows
    #[arg(long)]
    api_access: bool,
    /// Secret that the executor may read; repeatable [default: regcred]
    #[arg(long = "secret", value_name = "NAME", requires = "api_access", value_parser = values::name)]
    secrets: Vec<String>,
    /// Make the container's root read-only; every Workflow must then add a volume for /tmp
    #[arg(long, conflicts_with = "ephemeral_storage")]
    read_only_root: bool,
    /// Leave all steps to the executor of the cluster
    #[arg(long)]
    stand_aside: bool,
    /// File with the executor's configuration [default: steps and memory that fit --cpu and --memory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Environment variable with a value from a Secret in the workflows' namespace; repeatable
    #[arg(long = "env", value_name = "NAME=SECRET/KEY", value_parser = values::variable)]
    env: Vec<EnvFromSecret>,
}

impl Installation {
    fn run(&self) -> Result<Exit, Failure> {
        values::each_once(&self.env)?;
        let Configuration { text, config } =
            Configuration::read(self.config.as_deref(), || self.resources.configuration())?;
        let mut objects = self.accounts(&config)?;
        objects.push(self.plugin(&text)?);
        let given = Given {
            variables: self.env.iter().map(|env| env.name.as_str()).collect(),
            api_access: self.api_access,
            image: self.image.is_some(),
            capacity: self.resources.capacity(),
            memory: self.resources.memory,
        };
        for warning in warnings(&config, &text, &given)? {
            output::eprint(&format!("warning: {warning}"));
        }
        print(&objects)
    }

    /// The accounts in each namespace with workflows.
    fn accounts(&self, config: &Config) -> Result<Vec<Value>, Failure> {
        let own = [self.namespace.clone()];
        let namespaces = match &*self.workflow_namespaces {
            [] => &own[..],
            namespaces => namespaces,
        };
        let repository_secrets = repository_secrets(config);
        let mut objects = Vec::new();
        for namespace in namespaces {
            for account in &self.workflow_accounts {
                objects.extend(accounts::of_workflows(namespace, account)?);
            }
            if self.api_access {
                let of_executor =
                    accounts::of_executor(namespace, &self.secrets, &repository_secrets)?;
                objects.extend(of_executor);
            }
        }
        Ok(objects)
    }

    /// The ConfigMap of the plugin, with the text of the executor's configuration.
    fn plugin(&self, config: &str) -> Result<Value, Failure> {
        let text = if self.read_only_root {
            READ_ONLY_ROOT
        } else {
            PLUGIN
        };
        let mut plugin = documents(text)?.swap_remove(0);
        plugin["metadata"]["namespace"] = json!(self.namespace);
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
        if self.stand_aside
            && let Some(args) = container["args"].as_array_mut()
        {
            args.push(json!("--stand-aside"));
        }
        self.resources.apply(&mut container);
        let mut env = vec![json!({"name": "WASM_WORKFLOW_CONFIG", "value": config})];
        env.extend(self.env.iter().map(EnvFromSecret::variable));
        container["env"] = env.into();
        data["sidecar.container"] = serde_saphyr::to_string(&container)
            .map_err(Failure::error)?
            .into();
        Ok(plugin)
    }
}
