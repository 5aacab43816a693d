//! Service accounts, their token Secrets and their permissions.
//!
//! Argo gives two accounts to the agent's pod (`workflow/controller/agent.go`). For each it mounts
//! the token Secret of the account in the workflow's namespace:
//!
//! - the account of the workflow, for the agent itself
//! - the account `wasm-executor-plugin`, for the executor, if the plugin has access to the API

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::documents;
use crate::cli::Failure;

/// The objects for the account `default` of workflows.
const WORKFLOW_ACCOUNT: &str = include_str!("../../../plugin/workflow-account/rbac.yaml");
/// The objects for the account of the executor.
const EXECUTOR_ACCOUNT: &str = include_str!("../../../plugin/with-api-access/rbac.yaml");
/// The account of workflows without `serviceAccountName`. Kubernetes creates it in each namespace.
pub(super) const DEFAULT_ACCOUNT: &str = "default";

/// The objects for an account of workflows. Kubernetes removes a token Secret without an account, so
/// the account is first.
pub(super) fn of_workflows(namespace: &str, account: &str) -> Result<Vec<Value>, Failure> {
    let mut objects = documents(WORKFLOW_ACCOUNT)?;
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let metadata = &mut object["metadata"];
        match kind.as_str() {
            "Secret" => {
                metadata["name"] = json!(format!("{account}.service-account-token"));
                metadata["annotations"]["kubernetes.io/service-account.name"] = json!(account);
            }
            "RoleBinding" => {
                metadata["name"] = json!(format!("wasm-workflow-account-{account}"));
                object["subjects"][0]["name"] = json!(account);
            }
            _ => {}
        }
    }
    if account != DEFAULT_ACCOUNT {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}});
        objects.insert(0, account);
    }
    Ok(in_namespace(objects, namespace))
}

/// The objects for the account of the executor. It may read the Secrets with these names. Without
/// `secrets`, it may read the Secret of the committed manifest. `repository_secrets` are added.
pub(super) fn of_executor(
    namespace: &str,
    secrets: &[String],
    repository_secrets: &BTreeSet<String>,
) -> Result<Vec<Value>, Failure> {
    let mut objects = documents(EXECUTOR_ACCOUNT)?;
    for object in &mut objects {
        name_secrets(object, secrets, repository_secrets);
    }
    Ok(in_namespace(objects, namespace))
}

/// Writes the names of Secrets into the rules of a Role about Secrets. Without `secrets`, the names
/// in the Role stay. `repository_secrets` are added.
pub(super) fn name_secrets(
    role: &mut Value,
    secrets: &[String],
    repository_secrets: &BTreeSet<String>,
) {
    for rule in items(role, "rules").filter(|rule| rule["resources"] == json!(["secrets"])) {
        if !secrets.is_empty() {
            rule["resourceNames"] = json!(secrets);
        }
        if let Some(names) = rule.get_mut("resourceNames").and_then(Value::as_array_mut) {
            names.extend(repository_secrets.iter().map(|name| json!(name)));
        }
    }
}

/// Sets the namespace of the objects, and of the accounts in their bindings.
pub(super) fn in_namespace(mut objects: Vec<Value>, namespace: &str) -> Vec<Value> {
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(namespace);
        put_subjects_in(object, namespace);
    }
    objects
}

/// Sets the namespace of the accounts in a binding.
pub(super) fn put_subjects_in(binding: &mut Value, namespace: &str) {
    for subject in items(binding, "subjects") {
        subject["namespace"] = json!(namespace);
    }
}

/// The items of a list in an object. None if the object has no such list.
pub(super) fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = object.get_mut(list).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}
