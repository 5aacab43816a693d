//! The manifests of the executor of the cluster, and the command `manifest cluster`.

use serde_json::{Value, json};
use wasm_workflow_executor::config::Config;

use super::documents;
use super::manifests::manifest;

fn cluster(flags: &str) -> Vec<Value> {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    manifest(&[&["cluster"], &flags[..]].concat()).unwrap()
}

fn committed(files: &[&str]) -> Vec<Value> {
    files
        .iter()
        .flat_map(|file| documents(format!("cluster/{file}")))
        .collect()
}

/// The object with this kind and name.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} {name}: {objects:#?}"))
}

fn executor(objects: &[Value]) -> &Value {
    object(objects, "Deployment", "wasm-workflow-executor")
}

/// The configuration of the executor.
fn configuration(objects: &[Value]) -> String {
    let container = &executor(objects)["spec"]["template"]["spec"]["containers"][0];
    let env = container["env"].as_array().unwrap();
    let variable = env
        .iter()
        .find(|variable| variable["name"] == "WASM_WORKFLOW_CONFIG");
    variable.unwrap()["value"].as_str().unwrap().to_owned()
}

#[test]
fn without_flags_the_committed_objects_are_printed() {
    let expected = committed(&[
        "argo/rbac.yaml",
        "namespace.yaml",
        "rbac.yaml",
        "deployment.yaml",
    ]);
    let printed = cluster("");
    assert_eq!(printed, expected);
    Config::from_text(&configuration(&printed), "the manifest").unwrap();
    let with_tenant = cluster("--tenant argo");
    assert_eq!(
        with_tenant[printed.len()..],
        committed(&["tenant/rbac.yaml"])
    );
}

/// Otherwise, the second installation would replace the role binding of the first one.
#[test]
fn installations_in_two_namespaces_have_different_roles() {
    let printed = cluster("--namespace second");
    let name = "wasm-workflow-executor-second";
    let binding = object(&printed, "ClusterRoleBinding", name);
    assert_eq!(binding["roleRef"]["name"], name);
    assert_eq!(binding["subjects"][0]["namespace"], "second");
    object(&printed, "ClusterRole", name);
}

/// The kustomization has the namespace and the version of the controller's image.
#[test]
fn the_controller_fits_the_executor() {
    let printed = cluster("--controller");
    let kustomization = &documents("cluster/controller/kustomization.yaml")[0];
    let controller = object(&printed, "Deployment", "workflow-controller-wasm");
    let namespace = &kustomization["namespace"];
    assert_eq!(&controller["metadata"]["namespace"], namespace);
    let image = &kustomization["images"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let expected = format!("{}:{}", text(&image["name"]), text(&image["newTag"]));
    let container = &controller["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], expected);
    let map = object(&printed, "ConfigMap", "workflow-controller-wasm-configmap");
    assert_eq!(&map["metadata"]["namespace"], namespace);
    let instance = text(&map["data"]["instanceID"]);
    let args = &executor(&printed)["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(
        args,
        &json!(["serve", "--cluster", format!("--instance-id={instance}")])
    );
    let env = container["env"].as_array().unwrap();
    let requeue_time = env
        .iter()
        .find(|variable| variable["name"] == "DEFAULT_REQUEUE_TIME");
    let requeue_time = text(&requeue_time.unwrap()["value"]);
    let configuration = configuration(&printed);
    assert!(
        configuration.contains(&format!("requeueTime: {requeue_time}")),
        "{configuration}"
    );
}

#[test]
fn flags_fill_in_the_objects() {
    let printed = cluster(
        "--namespace wasm --image r.example.com/x:2 --replicas 5 --cpu 4 --memory 16Gi \
         --controller-account ci/controller --instance-id blue --requeue-time 1s --http-templates \
         --tenant team-a --tenant team-b --secret keys --env PASSWORD=ghcr/password",
    );
    let deployment = executor(&printed);
    assert_eq!(deployment["metadata"]["namespace"], "wasm");
    assert_eq!(deployment["spec"]["replicas"], 5);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "r.example.com/x:2");
    assert_eq!(
        container["args"],
        json!([
            "serve",
            "--cluster",
            "--instance-id=blue",
            "--http-templates"
        ])
    );
    assert_eq!(container["resources"]["limits"]["memory"], "16Gi");
    let expected = "capacity: {steps: 32}\nlimits: {memory: 320Mi}\ncluster: {requeueTime: 1s}";
    assert_eq!(configuration(&printed), expected);
    let env = container["env"].as_array().unwrap();
    let secret = json!({"secretKeyRef": {"name": "ghcr", "key": "password"}});
    assert_eq!(env.last().unwrap()["valueFrom"], secret);
    let binding = object(
        &printed,
        "ClusterRoleBinding",
        "argo-controller-workflowtasksets-status-ci-controller",
    );
    let subject = &binding["subjects"][0];
    assert_eq!(
        (&subject["namespace"], &subject["name"]),
        (&json!("ci"), &json!("controller"))
    );
    let name = "wasm-workflow-executor-wasm";
    let binding = object(&printed, "ClusterRoleBinding", name);
    assert_eq!(binding["subjects"][0]["namespace"], "wasm");
    for tenant in ["team-a", "team-b"] {
        let role = printed
            .iter()
            .find(|object| object["kind"] == "Role" && object["metadata"]["namespace"] == tenant);
        assert_eq!(role.unwrap()["rules"][0]["resourceNames"], json!(["keys"]));
    }
}

/// The account of the tenants has the same name in the configuration and in all rules.
#[test]
fn the_configuration_decides_names_and_times() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let s3 = "endpoint: h, bucket: b, accessKeySecret: {name: keys, key: a}, secretKeySecret: {name: keys, key: s}";
    let text = format!(
        "cluster: {{tenantAccount: reader, drainTime: 10m}}\nartifacts: {{repository: {{s3: {{{s3}}}}}}}\n"
    );
    std::fs::write(&file, &text).unwrap();
    let printed = cluster(&format!("--tenant a --config {}", file.display()));
    assert_eq!(configuration(&printed), text);
    let pod = &executor(&printed)["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 630);
    object(&printed, "ServiceAccount", "reader");
    let role = object(&printed, "Role", "wasm-executor-tenant");
    let secrets = &role["rules"][0]["resourceNames"];
    assert_eq!(secrets, &json!(["regcred", "keys"]));
    assert!(
        !json!(printed).to_string().contains("wasm-executor-plugin"),
        "{printed:#?}"
    );
}

#[test]
fn the_sidecar_can_stand_aside() {
    let printed = manifest(&["--stand-aside"]).unwrap();
    let container = &printed.last().unwrap()["data"]["sidecar.container"];
    let container = container.as_str().unwrap();
    assert!(container.contains("--stand-aside"), "{container}");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    for (flags, expected) in [
        ("--controller --instance-id x", "cannot be used with"),
        ("--controller --requeue-time 1s", "cannot be used with"),
        ("--secret x", "--tenant"),
        ("--replicas 0", "--replicas"),
        ("--controller-account argo", "NAMESPACE/ACCOUNT"),
        ("--requeue-time soon", "--requeue-time"),
        ("--instance-id a/b", "--instance-id"),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let message = manifest(&[&["cluster"], &flags[..]].concat()).unwrap_err();
        assert!(message.contains(expected), "{flags:?}: {message}");
    }
}
