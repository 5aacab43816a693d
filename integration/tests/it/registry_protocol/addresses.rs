//! IPv6 addresses, wherever a host may stand. The servers are on `[::1]`.

use axum::Router;
use axum::routing::get;
use serde_json::json;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, USER};

use super::{assert_error, assert_ran, docker_config};
use crate::cli::{Cli, stderr, stdout, text};
use crate::template_of_module;

const V6: &str = "[::1]";

#[tokio::test]
async fn modules_are_pushed_to_and_run_from_an_ipv6_address() {
    let registry = Registry::start_on(V6, Access::Password);
    let host = registry.host.as_str();
    let port = host.strip_prefix("[::1]:").unwrap();
    let cli = Cli::new();
    std::fs::create_dir_all(cli.at(".docker")).unwrap();
    let config = docker_config(host, &format!("{USER}:{PASSWORD}")).to_string();
    std::fs::write(cli.at(".docker/config.json"), config).unwrap();
    let long = format!("[0:0:0:0:0:0:0:1]:{port}");
    let pushed = cli.run(&[
        "push",
        text(&guest("noop-command")),
        &format!("{host}/team/tool:1.0"),
        "--insecure-registry",
        host,
    ]);
    assert_eq!(pushed.status.code(), Some(0), "{}", stderr(&pushed));
    let pinned = stdout(&pushed).trim().to_owned();
    assert!(pinned.starts_with(&format!("oci://{host}/team/tool@sha256:")));
    for (reference, insecure) in [
        (format!("oci://{host}/team/tool:1.0"), host),
        (format!("{host}/team/tool:1.0"), host),
        (pinned.clone(), host),
        (pinned.trim_start_matches("oci://").to_owned(), host),
        (format!("{long}/team/tool:1.0"), host),
        (format!("{host}/team/tool:1.0"), long.as_str()),
        (format!("{host}/team/tool:1.0"), V6),
    ] {
        let ran = cli.run(&["run", &reference, "--insecure-registry", insecure]);
        assert_eq!(ran.status.code(), Some(0), "{reference}: {}", stderr(&ran));
    }
    let refused = cli.run(&["inspect", &format!("oci://{host}/team/tool:2.0")]);
    let expected = format!("--insecure-registry {host}");
    assert!(stderr(&refused).contains(&expected), "{}", stderr(&refused));
}

#[tokio::test]
async fn every_setting_that_names_a_host_takes_an_ipv6_address() {
    let registry = Registry::start_on(V6, Access::Password);
    let host = registry.host.as_str();
    let module = std::fs::read(guest("noop-command")).unwrap();
    let config_blob = registry
        .put_blob("acme/tool", "application/vnd.wasm.config.v0+json", b"{}")
        .await;
    let layer = registry
        .put_blob("acme/tool", "application/wasm", &module)
        .await;
    let manifest = json!({"schemaVersion": 2, "mediaType": super::MANIFEST, "config": config_blob, "layers": [layer]});
    registry
        .put_manifest("acme/tool", "1.0.0", super::MANIFEST, &manifest)
        .await;
    let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
    let web = listener.local_addr().unwrap().to_string();
    let router = Router::new().route("/m.wasm", get(async move || module));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = json!({"sources": {
        "insecure": [host, web],
        "wkg": {"namespaces": {"acme": host}},
        "mirrors": {"registry.example": [host], "[fd00::1]:5000": [host]},
        "credentials": [{"host": format!("{host}/acme"), "username": USER, "passwordFrom": {"env": "PASSWORD"}}],
        "policy": {
            "allow": [format!("oci://{host}/acme/*"), format!("http://{web}/*"), "wkg:acme:*", "oci://registry.example/*", "oci://[fd00::1]:5000/*"],
            "hosts": [host, web],
        },
    }});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: vec![("PASSWORD".to_owned(), PASSWORD.to_owned())],
        ..Options::default()
    });
    for module in [
        json!({"oci": format!("{host}/acme/tool:1.0.0")}),
        json!(format!("oci://{host}/acme/tool:1.0.0")),
        json!({"wkg": "acme:tool"}),
        json!({"oci": "registry.example/acme/tool:1.0.0"}),
        json!({"oci": "[fd00::1]:5000/acme/tool:1.0.0"}),
        json!({"http": {"url": format!("http://{web}/m.wasm")}}),
    ] {
        let node = executor.node(&template_of_module(module.clone())).await;
        assert_ran(&node, &module.to_string());
    }
    for (module, expected) in [
        (
            json!({"oci": format!("{host}/other/tool:1.0.0")}),
            "policy does not allow this module",
        ),
        (
            json!("oci://[fe80::1%25eth0]:5000/acme/tool:1"),
            "an IPv6 address must not have a zone",
        ),
        (json!("oci://::1/acme/tool:1"), "must be in brackets"),
    ] {
        let node = executor.node(&template_of_module(module)).await;
        assert_error(&node, expected);
    }
}

/// The guard against requests to this machine knows every spelling of its addresses.
#[tokio::test]
async fn addresses_of_this_machine_are_refused_unless_they_are_listed() {
    let executor = Executor::start();
    for host in [
        "[::1]:5000",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]:5000",
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
    ] {
        let reference = json!({"oci": format!("{host}/acme/tool:1")});
        let node = executor.node(&template_of_module(reference)).await;
        assert_error(&node, "requests to such addresses are refused");
    }
}
