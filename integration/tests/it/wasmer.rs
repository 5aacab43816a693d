//! Packages of a Wasmer registry, in each format since the first one.

use std::io::Write;

use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::wasmer_registry::{WasmerRegistry, pack};

use crate::{message, template_of_module};

const RUNNER: &str = "https://webc.org/runner/wasi";

fn executor(registry: &WasmerRegistry, credentials: &Value) -> Executor {
    let config = json!({"sources": {
        "insecure": [registry.host], "wapm": {"registry": registry.host}, "credentials": credentials,
    }});
    let env = vec![("WASMER".to_owned(), "hunter2".to_owned())];
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env,
        ..Options::default()
    })
}

fn of(package: Value) -> Value {
    template_of_module(json!({"wapm": package}))
}

fn command(annotations: Value) -> Value {
    json!({"runner": RUNNER, "annotations": annotations})
}

/// Containers of all versions. Their commands have arguments and environment variables.
#[tokio::test]
async fn packages_of_every_webc_version_run() {
    let registry = WasmerRegistry::start();
    let show = guest("show");
    let noop = guest("noop-command");
    let manifest = json!({
        "entrypoint": "show",
        "commands": {
            "show": command(json!({"wasi": {"atom": "show", "env": ["FROM=package"], "main-args": ["a", "b c"], "exec-name": "shown"}})),
            "other": command(json!({"atom": {"name": "noop"}})),
            "noop": command(json!({})),
        },
    });
    let container = |version: &str| {
        let webc = pack(version, &manifest, &[("show", &show), ("noop", &noop)]);
        registry.container(&format!("{version}.webc"), &webc)
    };
    registry.set(
        &json!({
            "acme/v1": {"1.0.0": {"V2": container("v1")}},
            "acme/v2": {"1.0.0": {"V2": container("v2")}},
            "acme/v3": {"1.0.0": {"V3": container("v3"), "V2": container("v2")}, "0.9.0": {"V3": container("v2")}},
        }),
        None,
    );
    let executor = executor(&registry, &json!([]));
    for version in ["v1", "v2", "v3"] {
        let package = format!("acme/{version}@1.0.0");
        let node = executor.node(&of(json!(package))).await;
        assert_eq!(node["phase"], "Succeeded", "{version}: {node}");
        let shown = node["outputs"]["result"].as_str().unwrap();
        assert!(
            shown.starts_with("args shown|a|b c|\nenv FROM=package\n"),
            "{version}: {shown}"
        );
        for command in ["other", "noop"] {
            let node = executor
                .node(&of(json!({"package": package, "command": command})))
                .await;
            assert_eq!(
                (&node["phase"], &node["outputs"]["result"]),
                (&json!("Succeeded"), &json!("")),
                "{node}"
            );
        }
    }
    let mut template = of(json!("acme/v3"));
    template["plugin"]["wasm"]["args"] = json!(["mine"]);
    template["plugin"]["wasm"]["env"] = json!([{"name": "FROM", "value": "template"}]);
    let node = executor.node(&template).await;
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap()
            .starts_with("args shown|mine|\nenv FROM=template\n"),
        "{node}"
    );
    let node = executor
        .node(&template_of_module(json!(
            "wapm://acme/v3@1.0.0#command=noop"
        )))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let node = executor
        .node(&of(json!({"package": "acme/v3", "command": "none"})))
        .await;
    assert!(
        message(&node).contains("has no command `none`; its commands are: `noop`, `other`, `show`"),
        "{node}"
    );
}

/// A package is verified against the hash of the registry. A module is verified against the hash of
/// the manifest. A template may name a digest of the package, too.
#[tokio::test]
async fn package_and_module_hashes_are_verified() {
    let registry = WasmerRegistry::start();
    let noop = guest("noop-command");
    let commands = json!({"noop": command(json!({}))});
    let good = pack("v3", &json!({"commands": commands}), &[("noop", &noop)]);
    let wrong_atom = json!({"kind": "https://webc.org/kind/wasm", "signature": format!("sha256:{}", "A".repeat(43) + "=")});
    let wrong = pack(
        "v2",
        &json!({"commands": commands, "atoms": {"noop": wrong_atom}}),
        &[("noop", &noop)],
    );
    let container = registry.container("good.webc", &good);
    let wrong = registry.container("wrong.webc", &wrong);
    let mut changed = container.clone();
    changed["piritaSha256Hash"] = json!(Digest::of(b"other").hex());
    let mut longer = container.clone();
    longer["piritaSize"] = json!(good.len() - 1);
    registry.set(
        &json!({
            "acme/good": {"1.0.0": {"V3": container}},
            "acme/changed": {"1.0.0": {"V3": changed}},
            "acme/longer": {"1.0.0": {"V3": longer}},
            "acme/wrong": {"1.0.0": {"V2": wrong}},
            "acme/archived": {"1.0.0": {"isArchived": true, "V3": container}},
        }),
        None,
    );
    let executor = executor(&registry, &json!([]));
    for (package, expected) in [
        (json!("acme/changed"), "expected content with digest"),
        (json!("acme/longer"), "but announced"),
        (json!("acme/wrong"), "which differs from the manifest"),
        (json!("acme/archived@1.0.0"), "was archived by its owner"),
        (json!("acme/none@1.0.0"), "has no package `acme/none@1.0.0`"),
        (json!("acme/good@2.0.0"), "has no package `acme/good@2.0.0`"),
        (
            json!({"package": "acme/good", "digest": Digest::of(b"x")}),
            "the registry's package: expected content",
        ),
        (
            json!("acme/\"){x}@1.0.0"),
            "it must look like `wapm://acme/resize@1.4.0`",
        ),
    ] {
        let node = executor.node(&of(package.clone())).await;
        assert_eq!(node["phase"], "Error", "{package}: {node}");
        assert!(message(&node).contains(expected), "{package}: {node}");
        assert!(!node.to_string().contains("signature=secret"), "{node}");
    }
    let node = executor
        .node(&of(
            json!({"package": "acme/good@1.0.0", "digest": Digest::of(&good)}),
        ))
        .await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
}

#[tokio::test]
async fn packages_that_cannot_run_are_errors() {
    let registry = WasmerRegistry::start();
    let noop = guest("noop-command");
    let package = |name: &str, manifest: Value| {
        let webc = pack("v3", &manifest, &[("noop", &noop)]);
        json!({"1.0.0": {"V3": registry.container(&format!("{name}.webc"), &webc)}})
    };
    let two = json!({"a": command(json!({"atom": {"name": "noop"}})), "b": command(json!({"atom": {"name": "noop"}}))});
    let files = json!({"fs": [{"volume_name": "/data", "mount_path": "/data"}]});
    registry.set(
        &json!({
            "acme/two": package("two", json!({"commands": two})),
            "acme/library": package("library", json!({})),
            "acme/wcgi": package("wcgi", json!({"commands": {"noop": {"runner": "https://webc.org/runner/wcgi", "annotations": {}}}})),
            "acme/elsewhere": package("elsewhere", json!({"commands": {"noop": command(json!({"atom": {"name": "x", "dependency": "acme/x"}}))}})),
            "acme/files": package("files", json!({"commands": {"noop": command(json!({}))}, "package": files})),
            "acme/nothing": {"1.0.0": {"V3": registry.container("nothing", b"\0webc004")}},
        }),
        None,
    );
    let executor = executor(&registry, &json!([]));
    for (package, expected) in [
        (
            "two",
            "the package has several commands: `a`, `b`. Choose one with",
        ),
        (
            "wcgi",
            "is for the runner `https://webc.org/runner/wcgi`, and not for WASI",
        ),
        (
            "elsewhere",
            "the command `noop` is in another package, `acme/x`. Name the package",
        ),
        ("files", "contains files beside its module (/data)"),
        ("nothing", "a WEBC of an unknown version"),
    ] {
        let node = executor.node(&of(json!(format!("acme/{package}")))).await;
        assert_eq!(node["phase"], "Error", "{package}: {node}");
        assert!(message(&node).contains(expected), "{package}: {node}");
    }
    assert_eq!(
        executor.node(&of(json!("acme/library"))).await["phase"],
        "Succeeded",
        "a package without commands, with one module"
    );
}

/// The format of packages before containers: gzipped tar archives. The registry has no hashes of
/// them.
#[tokio::test]
async fn archives_of_old_packages_run() {
    let registry = WasmerRegistry::start();
    let archive = |toml: &str| {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(
            Vec::new(),
            flate2::Compression::fast(),
        ));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        };
        add("./wapm.toml", toml.as_bytes());
        add("./target/show.wasm", &std::fs::read(guest("show")).unwrap());
        let mut bytes = builder.into_inner().unwrap().finish().unwrap();
        bytes.flush().unwrap();
        bytes
    };
    let head = "[package]\nname = 'acme/show'\nversion = '1.0.0'\ndescription = ''\n";
    let module = "[[module]]\nname = 'show'\nsource = 'target/show.wasm'\nabi = 'wasi'\n";
    let command = "[[command]]\nname = 'run'\nmodule = 'show'\nmain_args = 'a b'\n";
    let packages = [
        ("acme/show", format!("{head}{module}{command}")),
        ("show", format!("{head}{module}")),
        (
            "acme/climbs",
            format!("{head}{}", module.replace("target/", "../")),
        ),
        (
            "acme/emscripten",
            format!("{head}{}", module.replace("'wasi'", "'emscripten'")),
        ),
        ("acme/fs", format!("{head}{module}[fs]\n'/data' = 'data'\n")),
    ];
    let mut all = json!({});
    for (name, toml) in &packages {
        let url = registry.serve(
            &format!("{}.tar.gz", name.replace('/', "-")),
            &archive(toml),
        );
        all[name] = json!({"1.0.0": {"V3": {"downloadUrl": url}, "V2": {"downloadUrl": url}}});
    }
    registry.set(&all, None);
    let executor = executor(&registry, &json!([]));
    let node = executor.node(&of(json!("acme/show@1.0.0"))).await;
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap_or_default()
            .starts_with("args run|a|b|\n"),
        "{node}"
    );
    let node = executor.node(&of(json!("show"))).await;
    assert!(
        node["outputs"]["result"]
            .as_str()
            .unwrap_or_default()
            .starts_with("args show|\n"),
        "{node}"
    );
    for (package, expected) in [
        ("climbs", "`wasmer.toml` is malformed"),
        ("emscripten", "is for `emscripten`, and not for WASI"),
        ("fs", "contains files beside its module (/data)"),
    ] {
        let node = executor.node(&of(json!(format!("acme/{package}")))).await;
        assert!(message(&node).contains(expected), "{package}: {node}");
    }
}

/// The token is sent to the API of the registry, but not to the hosts of the URLs that the registry
/// names.
#[tokio::test]
async fn private_packages_need_a_token_that_stays_with_the_registry() {
    let registry = WasmerRegistry::start();
    let other = WasmerRegistry::start();
    let webc = pack(
        "v3",
        &json!({"commands": {"noop": command(json!({}))}}),
        &[("noop", &guest("noop-command"))],
    );
    let packages =
        json!({"acme/private": {"1.0.0": {"V3": other.container("private.webc", &webc)}}});
    registry.set(&packages, Some("hunter2"));
    let credentials = json!([
        {"host": registry.host, "tokenFrom": {"env": "WASMER"}},
        {"host": other.host, "tokenFrom": {"env": "WASMER"}},
    ]);
    let config = json!({"sources": {
        "insecure": [registry.host, other.host], "wapm": {"registry": registry.host}, "credentials": credentials,
    }});
    let env = vec![("WASMER".to_owned(), "hunter2".to_owned())];
    let with_token = Executor::start_with(Options {
        config: Some(config.to_string()),
        env,
        ..Options::default()
    });
    let node = with_token.node(&of(json!("acme/private@1.0.0"))).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer hunter2"))
    );
    let requests = other.requests();
    assert!(
        requests.len() == 1 && requests[0].authorization.is_none(),
        "the host of the package gets no token: {requests:?}"
    );
    let node = executor(&registry, &json!([]))
        .node(&of(json!("acme/private@1.0.0")))
        .await;
    assert!(
        message(&node).contains("for a private package, a token for the registry's host is needed"),
        "{node}"
    );
}

/// A name without a version resolves to the newest version. Rules about that version apply.
#[tokio::test]
async fn version_rules_apply_to_the_newest_version() {
    let registry = WasmerRegistry::start();
    let webc = pack(
        "v3",
        &json!({"commands": {"noop": command(json!({}))}}),
        &[("noop", &guest("noop-command"))],
    );
    registry.set(
        &json!({"acme/x": {"1.0.0": {"V3": registry.container("x.webc", &webc)}}}),
        None,
    );
    let rules = json!([{"references": ["wapm://acme/x@1.0.0"], "keys": [include_str!("../../fixtures/cosign/cosign.pub")]}]);
    for (policy, expected) in [
        (
            json!({"deny": ["wapm://acme/x@1.0.0"]}),
            "the operator's policy does not allow this module",
        ),
        (
            json!({"signatures": rules}),
            "which only modules in OCI registries can have",
        ),
    ] {
        let config = json!({"sources": {"insecure": [registry.host], "wapm": {"registry": registry.host}, "policy": policy}});
        let executor = Executor::start_with(Options {
            config: Some(config.to_string()),
            ..Options::default()
        });
        let node = executor.node(&of(json!("acme/x"))).await;
        assert!(message(&node).contains(expected), "{node}");
    }
}
