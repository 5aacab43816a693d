//! `manifest cluster`: the objects of `plugin/cluster`, filled in.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::accounts;
use super::configuration::Configuration;
use super::resources::Resources;
use super::values::{self, EnvFromSecret};
use super::warnings::{Given, repository_secrets, warnings};
use super::{documents, print};
use crate::cli::{Exit, Failure, output};
use crate::config::{ClusterSettings, Config};
use crate::text::units::Time;

const NAMESPACE: &str = include_str!("../../../plugin/cluster/namespace.yaml");
const RIGHTS: &str = include_str!("../../../plugin/cluster/rbac.yaml");
const DEPLOYMENT: &str = include_str!("../../../plugin/cluster/deployment.yaml");
const TENANT: &str = include_str!("../../../plugin/cluster/tenant/rbac.yaml");
/// The rights of Argo's controller.
const ARGO: &str = include_str!("../../../plugin/cluster/argo/rbac.yaml");
const CONTROLLER: [&str; 2] = [
    include_str!("../../../plugin/cluster/controller/configmap.yaml"),
    include_str!("../../../plugin/cluster/controller/deployment.yaml"),
];

/// The account in `plugin/cluster/argo/rbac.yaml`.
const DEFAULT_CONTROLLER_ACCOUNT: &str = "argo/argo";
/// The namespace in the files, which is the name of the roles, too.
const DEFAULT_NAMESPACE: &str = "wasm-workflow-executor";
/// `instanceID` and `DEFAULT_REQUEUE_TIME` of the controller in `plugin/cluster/controller`.
const INSTANCE_ID: &str = "wasm";
const REQUEUE_TIME: &str = "200ms";
/// The version of Argo in `plugin/cluster/controller/kustomization.yaml`.
const ARGO_VERSION: &str = "v4.1.2";

#[derive(Debug, Args)]
pub(super) struct ClusterInstallation {
    /// Namespace of the executor
    #[arg(long, default_value = DEFAULT_NAMESPACE, value_parser = values::namespace)]
    namespace: String,
    /// Image of the executor [default: the image of this version]
    #[arg(long, value_parser = values::image)]
    image: Option<String>,
    /// Number of replicas
    #[arg(long, value_name = "NUMBER", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    replicas: u32,
    #[command(flatten)]
    resources: Resources,
    /// Print a controller of its own, too: Argo 4.1, without agent's pods, for Workflows with its label
    #[arg(long, conflicts_with_all = ["instance_id", "requeue_time"])]
    controller: bool,
    /// Service account of Argo's controller
    #[arg(long, value_name = "NAMESPACE/ACCOUNT", default_value = DEFAULT_CONTROLLER_ACCOUNT, value_parser = values::account)]
    controller_account: values::Account,
    /// `instanceID` of the controller [default: the controller without one]
    #[arg(long, value_name = "ID", value_parser = values::label)]
    instance_id: Option<String>,
    /// `DEFAULT_REQUEUE_TIME` of the controller [default: 10s, or 200ms with --controller]
    #[arg(long, value_name = "TIME", conflicts_with = "config")]
    requeue_time: Option<Time>,
    /// Run `http` templates, too; only for controllers without agent's pods
    #[arg(long)]
    http_templates: bool,
    /// Namespace whose Secrets its steps may use; repeatable
    #[arg(long = "tenant", value_name = "NAMESPACE", value_parser = values::namespace)]
    tenants: Vec<String>,
    /// Secret that steps of the tenants may use; repeatable [default: regcred]
    #[arg(long = "secret", value_name = "NAME", requires = "tenants", value_parser = values::name)]
    secrets: Vec<String>,
    /// File with the executor's configuration [default: values that fit the other flags]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Environment variable with a value from a Secret in the executor's namespace; repeatable
    #[arg(long = "env", value_name = "NAME=SECRET/KEY", value_parser = values::variable)]
    env: Vec<EnvFromSecret>,
}

impl ClusterInstallation {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        values::each_once(&self.env)?;
        let Configuration { text, config } =
            Configuration::read(self.config.as_deref(), || self.configuration())?;
        let given = Given {
            variables: self.env.iter().map(|env| env.name.as_str()).collect(),
            api_access: true,
            image: self.image.is_some(),
            capacity: self.resources.capacity(),
            memory: self.resources.memory,
        };
        let warnings = warnings(&config, &text, &given)?;
        for warning in warnings.iter().chain(&self.mismatches(&config)) {
            output::eprint(&format!("warning: {warning}"));
        }
        let repository_secrets = repository_secrets(&config);
        let account = &config.cluster.tenant_account;
        let mut objects = self.rights_of_controller()?;
        if self.controller {
            objects.extend(self.own_controller()?);
        }
        objects.extend(self.executor(&text, &config.cluster)?);
        for tenant in &self.tenants {
            objects.extend(self.tenant(tenant, account, &repository_secrets)?);
        }
        print(&objects)
    }

    /// What the configuration and the flags do not agree about.
    fn mismatches(&self, config: &Config) -> Vec<String> {
        let mut warnings = Vec::new();
        let requeue_time = config.cluster.requeue_time;
        if self.controller && requeue_time.to_string() != REQUEUE_TIME {
            warnings.push(format!(
                "`cluster.requeueTime` is {requeue_time}, but the controller has {REQUEUE_TIME}"
            ));
        }
        if self.http_templates && !self.controller {
            warnings.push(
                "--http-templates is only for a controller with `disableAgentPodCreation`: otherwise, \
                 Argo's agent sends each request, too"
                    .to_owned(),
            );
        }
        if let Some(namespace) = &config.artifacts.controller_namespace
            && !self.tenants.contains(namespace)
        {
            warnings.push(format!(
                "the configuration names `artifacts.controllerNamespace`; add --tenant {namespace}, and \
                 add the ConfigMap `workflow-controller-configmap` to the Role there"
            ));
        }
        warnings
    }

    /// The text of the configuration that fits the flags.
    fn configuration(&self) -> String {
        let requeue_time = match (self.requeue_time, self.controller) {
            (Some(time), _) => time.to_string(),
            (None, true) => REQUEUE_TIME.to_owned(),
            (None, false) => ClusterSettings::default().requeue_time.to_string(),
        };
        let capacity = self.resources.configuration();
        format!("{capacity}\ncluster: {{requeueTime: {requeue_time}}}")
    }

    /// The right that Argo's own manifests do not give to the controller.
    fn rights_of_controller(&self) -> Result<Vec<Value>, Failure> {
        let mut objects = documents(ARGO)?;
        for object in objects
            .iter_mut()
            .filter(|object| is(object, "ClusterRoleBinding"))
        {
            let values::Account { namespace, name } = &self.controller_account;
            object["subjects"][0] =
                json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
            if format!("{namespace}/{name}") != DEFAULT_CONTROLLER_ACCOUNT {
                // Controllers with different accounts each have a binding.
                let binding = object["metadata"]["name"].as_str().unwrap_or_default();
                object["metadata"]["name"] = json!(format!("{binding}-{namespace}-{name}"));
            }
        }
        Ok(objects)
    }

    fn own_controller(&self) -> Result<Vec<Value>, Failure> {
        let mut objects = documents(&CONTROLLER.join("---\n"))?;
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.controller_account.namespace);
            if is(object, "Deployment") {
                let pod = &mut object["spec"]["template"]["spec"];
                pod["serviceAccountName"] = json!(self.controller_account.name);
                let image = &mut pod["containers"][0]["image"];
                let name = image.as_str().unwrap_or_default();
                *image = json!(format!("{name}:{ARGO_VERSION}"));
            }
        }
        Ok(objects)
    }

    /// The objects of the executor, with the text of its configuration.
    fn executor(&self, text: &str, settings: &ClusterSettings) -> Result<Vec<Value>, Failure> {
        let mut objects = documents(&[NAMESPACE, RIGHTS, DEPLOYMENT].join("---\n"))?;
        for object in &mut objects {
            match object["kind"].as_str().unwrap_or_default() {
                "Namespace" => object["metadata"]["name"] = json!(self.namespace),
                "Deployment" => self.deployment(object, text, settings),
                "ClusterRole" => name_tenant_account(object, &settings.tenant_account),
                _ => {}
            }
            match object["metadata"].get_mut("namespace") {
                Some(namespace) => *namespace = json!(self.namespace),
                None => self.name_object_of_cluster(object),
            }
            accounts::put_subjects_in(object, &self.namespace);
        }
        Ok(objects)
    }

    /// Names a role, or its binding, of the whole cluster, so that executors in two namespaces have two roles.
    fn name_object_of_cluster(&self, object: &mut Value) {
        if self.namespace == DEFAULT_NAMESPACE || is(object, "Namespace") {
            return;
        }
        let name = format!("{DEFAULT_NAMESPACE}-{}", self.namespace);
        if let Some(role) = object.get_mut("roleRef") {
            role["name"] = json!(name);
        }
        object["metadata"]["name"] = json!(name);
    }

    fn deployment(&self, object: &mut Value, text: &str, settings: &ClusterSettings) {
        let spec = &mut object["spec"];
        spec["replicas"] = json!(self.replicas);
        let pod = &mut spec["template"]["spec"];
        let grace = settings.drain_time.0.as_secs().saturating_add(30);
        pod["terminationGracePeriodSeconds"] = json!(grace);
        let container = &mut pod["containers"][0];
        if let Some(image) = &self.image {
            container["image"] = json!(image);
        }
        self.resources.apply(container);
        let instance = match self.controller {
            true => Some(INSTANCE_ID),
            false => self.instance_id.as_deref(),
        };
        if let Some(args) = container["args"].as_array_mut() {
            args.extend(instance.map(|id| json!(format!("--instance-id={id}"))));
            args.extend(self.http_templates.then(|| json!("--http-templates")));
        }
        if let Some(env) = container["env"].as_array_mut() {
            let configuration = |variable: &&mut Value| variable["name"] == "WASM_WORKFLOW_CONFIG";
            if let Some(variable) = env.iter_mut().find(configuration) {
                variable["value"] = json!(text);
            }
            env.extend(self.env.iter().map(EnvFromSecret::variable));
        }
    }

    /// What a namespace allows the executor to read.
    fn tenant(
        &self,
        namespace: &str,
        account: &str,
        repository_secrets: &BTreeSet<String>,
    ) -> Result<Vec<Value>, Failure> {
        let mut objects = documents(TENANT)?;
        for object in &mut objects {
            match object["kind"].as_str().unwrap_or_default() {
                "ServiceAccount" => object["metadata"]["name"] = json!(account),
                "RoleBinding" => object["subjects"][0]["name"] = json!(account),
                _ => name_tenant_account(object, account),
            }
            accounts::name_secrets(object, &self.secrets, repository_secrets);
        }
        Ok(accounts::in_namespace(objects, namespace))
    }
}

/// Writes the account of the tenants into the rules of a Role about service accounts.
fn name_tenant_account(role: &mut Value, account: &str) {
    for rule in accounts::items(role, "rules") {
        if rule["resources"] == json!(["serviceaccounts"]) {
            rule["resourceNames"] = json!([account]);
        }
    }
}

fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}
