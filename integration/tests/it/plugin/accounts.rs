//! Service accounts, token Secrets and permissions in the output of `manifest`.

use serde_json::{Value, json};

use super::manifests::manifest;

/// Kind and name of each object, with its namespace: `KIND NAMESPACE/NAME`.
fn names(printed: &[Value]) -> Vec<String> {
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!(
            "{} {}/{}",
            text(&object["kind"]),
            text(&metadata["namespace"]),
            text(&metadata["name"])
        )
    };
    printed.iter().map(name).collect()
}

/// Argo mounts the Secret `ACCOUNT.service-account-token` into the agent's pod
/// (`util/secrets/secret_name.go`). Kubernetes creates the account `default` itself. It removes a
/// token Secret that names no account, so each account is before its Secret.
#[test]
fn the_agents_account_has_a_token_secret_in_each_namespace_with_workflows() {
    assert_eq!(
        names(&manifest(&[]).unwrap()),
        [
            "Secret argo/default.service-account-token",
            "Role argo/wasm-workflow-account",
            "RoleBinding argo/wasm-workflow-account-default",
            "ConfigMap argo/wasm-executor-plugin",
        ]
    );
    let printed = manifest(&[
        "--namespace=plugins",
        "--workflow-namespace=a",
        "--workflow-namespace=b",
        "--workflow-account=builds",
        "--api-access",
    ])
    .unwrap();
    let mut expected = Vec::new();
    for namespace in ["a", "b"] {
        for object in [
            "ServiceAccount builds",
            "Secret builds.service-account-token",
            "Role wasm-workflow-account",
            "RoleBinding wasm-workflow-account-builds",
            "ServiceAccount wasm-executor-plugin",
            "Secret wasm-executor-plugin.service-account-token",
            "Role wasm-executor-plugin",
            "RoleBinding wasm-executor-plugin",
        ] {
            expected.push(object.replace(' ', &format!(" {namespace}/")));
        }
    }
    // The plugin is last. So no workflow uses the plugin before its accounts exist.
    expected.push("ConfigMap plugins/wasm-executor-plugin".to_owned());
    assert_eq!(names(&printed), expected);
    for secret in printed.iter().filter(|object| object["kind"] == "Secret") {
        let account = &secret["metadata"]["annotations"]["kubernetes.io/service-account.name"];
        assert_eq!(secret["type"], "kubernetes.io/service-account-token");
        assert_eq!(
            secret["metadata"]["name"],
            format!("{}.service-account-token", account.as_str().unwrap())
        );
    }
    for binding in printed
        .iter()
        .filter(|object| object["kind"] == "RoleBinding")
    {
        let namespace = &binding["metadata"]["namespace"];
        assert_eq!(&binding["subjects"][0]["namespace"], namespace);
        let role = format!(
            "Role {}/{}",
            namespace.as_str().unwrap(),
            binding["roleRef"]["name"].as_str().unwrap()
        );
        assert!(names(&printed).contains(&role), "{role}");
    }
}

/// Two accounts in one namespace share the Role. Each has its own binding.
#[test]
fn several_accounts_share_a_role() {
    let printed = manifest(&["--workflow-account=default", "--workflow-account=builds"]).unwrap();
    let bindings: Vec<&Value> = printed
        .iter()
        .filter(|object| object["kind"] == "RoleBinding")
        .collect();
    let accounts: Vec<&Value> = bindings
        .iter()
        .map(|binding| &binding["subjects"][0]["name"])
        .collect();
    assert_eq!(accounts, ["default", "builds"]);
    assert_ne!(bindings[0]["metadata"], bindings[1]["metadata"]);
}

/// The agent watches its WorkflowTaskSet and patches the status (`workflow/executor/agent.go`).
/// Argo's executor in the pods of container steps creates and patches WorkflowTaskResults.
#[test]
fn the_account_of_workflows_gets_the_rights_of_argos_own_roles() {
    let printed = manifest(&[]).unwrap();
    let role = printed
        .iter()
        .find(|object| object["kind"] == "Role")
        .unwrap();
    let rule = |resource: &str, verbs: &[&str]| json!({"apiGroups": ["argoproj.io"], "resources": [resource], "verbs": verbs});
    assert_eq!(
        role["rules"],
        json!([
            rule("workflowtasksets", &["list", "watch"]),
            rule("workflowtasksets/status", &["patch"]),
            rule("workflowtaskresults", &["create", "patch"]),
        ])
    );
}

#[test]
fn names_of_accounts_and_namespaces_are_checked() {
    for flag in [
        "--workflow-account=A b",
        "--workflow-namespace=a.b",
        "--workflow-namespace=",
    ] {
        let message = manifest(&[flag]).unwrap_err();
        assert!(message.contains("it must be the name"), "{flag}: {message}");
    }
}
