//! Tenants: the namespaces of a cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, USER};

use super::*;
use crate::template_of_module;

/// A Secret for a registry, in a namespace.
fn put_pull_secret(cluster: &Cluster, namespace: &str, registry: &str) {
    let login = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({"auths": {registry: {"auth": login}}}).to_string();
    let secret = json!({
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": STANDARD.encode(config)},
    });
    let key = ("secrets".into(), namespace.into(), "regcred".into());
    cluster.store.create(&key, secret).unwrap();
}

fn put_tenant_account(cluster: &Cluster, namespace: &str) {
    let name = "wasm-executor-plugin".to_owned();
    let key = ("serviceaccounts".into(), namespace.into(), name);
    cluster.store.create(&key, json!({})).unwrap();
}

/// The executor itself may read no Secret. It acts as the account of the namespace.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_with_the_rights_of_the_namespace() {
    let registry = Registry::start_with(Access::Password);
    let module = std::fs::read(guest("noop-command")).unwrap();
    registry.push_module("m:1", &module).await;
    let cluster = Cluster::start().await;
    let _replica = cluster.replica("r1", &["--insecure-registry", &registry.host]);
    let mut private = template_of_module(json!({"oci": format!("{}/m:1", registry.host)}));
    private["plugin"]["wasm"]["pull"] = json!({"secrets": [{"name": "regcred"}]});
    for namespace in ["with-account", "without-account"] {
        put_pull_secret(&cluster, namespace, &registry.host);
    }
    put_tenant_account(&cluster, "with-account");
    cluster.submit_in("with-account", "a", vec![round("a", 1, &private)]);
    let (phase, message) = ended_node(&cluster, "a").await;
    assert_eq!(phase, "Succeeded", "{message}");

    cluster.submit_in("without-account", "b", vec![round("b", 1, &private)]);
    let (phase, message) = ended_node(&cluster, "b").await;
    assert_eq!(phase, "Error");
    let expected = "Secret `regcred` of namespace `without-account` may not be read: the service \
                    account `wasm-executor-plugin` of namespace `without-account` needs the verb `get`";
    assert!(message.contains(expected), "{message}");

    // A Secret of another namespace cannot be named, and the stored module is not enough.
    let mut without = private.clone();
    without["plugin"]["wasm"]["pull"] = json!({"policy": "IfNotPresent"});
    cluster.submit_in("without-account", "c", vec![round("c", 1, &without)]);
    let (phase, message) = ended_node(&cluster, "c").await;
    assert_eq!(phase, "Error");
    assert!(message.contains("401 Unauthorized"), "{message}");
}

/// One namespace with many templates does not use all slots.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_many_steps_leaves_a_slot_to_another_namespace() {
    let cluster = Cluster::start().await;
    let _replica = cluster.replica("r1", &[]);
    let mut many = BTreeMap::new();
    for number in 0..40 {
        let mut spin = ends_after("10s");
        spin["name"] = format!("spin-{number}").into();
        many.insert(format!("many-{number}"), spin);
    }
    cluster.submit_in("greedy", "many", vec![many]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    cluster.submit_in("modest", "one", vec![round("one", 1, &noop())]);
    let (phase, message) = ended_node(&cluster, "one").await;
    assert_eq!(phase, "Succeeded", "{message}");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}
