//! The section `namespaces` of the configuration.

use axum::response::{IntoResponse, Redirect};

use super::*;
use crate::http_artifacts::ScriptedServer;
use crate::template_of_module;

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_a_namespace_are_only_for_its_steps() {
    let cluster = Cluster::start().await;
    let server = ScriptedServer::start(|_| "content".into_response()).await;
    let to_server = format!("http://{}/file", server.host);
    let redirect = to_server.clone();
    let allowed = ScriptedServer::start(move |_| Redirect::to(&redirect).into_response()).await;
    let config = json!({"namespaces": [{
        "names": ["strict-*"],
        "modules": {"deny": ["file:///*/noop-step.wasm"]},
        "hosts": [allowed.host],
        "limits": {"time": "300ms"},
    }]});
    let flags = ["--http-templates", "--insecure-registry", "127.0.0.1"];
    let _replica = cluster.start_replica("r1", &flags, &config);
    let url = |server: &ScriptedServer| format!("http://{}/file", server.host);
    let http = |http: Value| json!({"name": "h", "http": http});
    let with_input = |url: String| {
        let mut template = noop();
        let artifact = json!({"name": "text", "path": "/in", "http": {"url": url}});
        template["inputs"] = json!({"artifacts": [artifact]});
        template
    };
    let mut sleeps = template("sleep");
    sleeps["plugin"]["wasm"]["limits"] = json!({"time": "1s"});
    let denied = format!("the operator does not allow requests to `{}`", server.host);
    let from = format!("the operator does not allow modules from `{}`", server.host);
    let place = "in the entry of `namespaces` for `strict-a`";
    let elsewhere = json!([{"name": "Host", "value": server.host}]);
    let module = template_of_module(json!(to_server));
    let cases = [
        (
            "module",
            template("noop-step"),
            "the operator's policy does not allow this module",
            "Succeeded",
        ),
        ("other", noop(), "", "Succeeded"),
        ("time", sleeps, "time limit of 300ms exceeded", "Failed"),
        ("input", with_input(url(&server)), &denied, "Succeeded"),
        ("moved", with_input(url(&allowed)), &denied, "Succeeded"),
        (
            "http",
            http(json!({"url": url(&server)})),
            &denied,
            "Succeeded",
        ),
        (
            "redirect",
            http(json!({"url": url(&allowed)})),
            &denied,
            "Succeeded",
        ),
        (
            "host",
            http(json!({"url": url(&allowed), "headers": elsewhere})),
            &denied,
            "Succeeded",
        ),
        ("server", module, &from, "Error"),
    ];
    for (name, template, _, _) in &cases {
        for namespace in ["strict-a", "loose"] {
            let workflow = format!("{namespace}-{name}");
            let rounds = vec![round(&workflow, 1, template)];
            cluster.submit_in(namespace, &workflow, rounds);
        }
    }
    for (name, _, expected, elsewhere) in &cases {
        let (phase, message) = ended_node(&cluster, &format!("strict-a-{name}")).await;
        assert!(message.contains(expected), "{name}: {message}");
        assert_eq!(phase == "Succeeded", expected.is_empty(), "{name}");
        if [denied.as_str(), &from].contains(expected) {
            assert!(message.contains(place), "{name}: {message}");
        }
        let (phase, message) = ended_node(&cluster, &format!("loose-{name}")).await;
        assert_eq!(phase, *elsewhere, "{name}: {message}");
    }
    let (_, message) = ended_node(&cluster, "loose-time").await;
    assert!(message.contains("time limit of 1s exceeded"), "{message}");
}
