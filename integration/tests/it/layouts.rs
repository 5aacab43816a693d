//! The layouts in which registries hold modules. Tools of other projects push the artifacts.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sources::Digest;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::other_programs::{stdout_of, succeed};
use wasm_workflow_integration::registry::Registry;

use crate::{insecure, message, packed, template_of_module as of};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

fn show() -> Vec<u8> {
    std::fs::read(guests::guest("show")).unwrap()
}

/// Runs the module `show` from a reference, and returns the result of the node.
async fn run_show(executor: &Executor, module: Value) -> String {
    let node = executor.node(&of(module)).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        message(&node).ends_with(&format!("module {}", Digest::of(&show()).short())),
        "{node}"
    );
    node["outputs"]["result"].as_str().unwrap().to_owned()
}

/// Command of Buildah or skopeo. All files of the tool are in `home`.
pub(crate) fn tool(home: &Path, program: &str) -> Command {
    let storage = format!(
        "[storage]\ndriver=\"vfs\"\nrunroot=\"{}\"\ngraphroot=\"{}\"\n",
        home.join("run").display(),
        home.join("graph").display()
    );
    std::fs::write(home.join("storage.conf"), storage).unwrap();
    std::fs::write(
        home.join("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let mut command = Command::new(program);
    command
        .env("STORAGE_DRIVER", "vfs")
        .env("BUILDAH_ISOLATION", "chroot")
        .env("HOME", home)
        .env("TMPDIR", home);
    command.env("CONTAINERS_STORAGE_CONF", home.join("storage.conf"));
    command
}

/// Runs Buildah or skopeo, and returns its standard output.
fn run_tool(home: &Path, program: &str, arguments: &[&str]) -> String {
    stdout_of(tool(home, program).args(arguments))
}

/// Images with an entry point and arguments, in each format and compression that Buildah can push.
#[tokio::test]
async fn images_of_buildah_and_skopeo_run() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let buildah = |arguments: &[&str]| run_tool(home, "buildah", arguments);
    let program = guests::guest("show").display().to_string();
    let policy = home.join("policy.json").display().to_string();
    for (number, (format, compression, from)) in [
        ("oci", "gzip", "oci"),
        ("v2s2", "gzip", "docker"),
        ("oci", "zstd", "oci"),
    ]
    .into_iter()
    .enumerate()
    {
        let container = buildah(&["from", "scratch"]);
        buildah(&["copy", "-q", &container, &program, "/bin/show.wasm"]);
        // Each image has a different layer, so that Buildah pushes each layer.
        buildah(&[
            "config",
            "--env",
            &format!("ROUND={number}"),
            "--env",
            "LANG=C",
            &container,
        ]);
        buildah(&[
            "config",
            "--os",
            "wasip1",
            "--arch",
            "wasm",
            "--entrypoint",
            r#"["/bin/show.wasm","-v"]"#,
            "--cmd",
            "default",
            &container,
        ]);
        let image = format!("t/{format}{compression}:1");
        buildah(&["commit", "-q", "--rm", "--format", from, &container, &image]);
        let target = format!("docker://{}/{image}", registry.host);
        buildah(&[
            "push",
            "-q",
            "--tls-verify=false",
            "--signature-policy",
            &policy,
            "--format",
            format,
            "--compression-format",
            compression,
            &image,
            &target,
        ]);
        let result = run_show(
            &executor,
            json!({"oci": format!("{}/{image}", registry.host)}),
        )
        .await;
        assert!(
            result.contains("args /bin/show.wasm|-v|default|"),
            "{result}"
        );
        assert!(
            result.contains(&format!("env ROUND={number}")) && result.contains("env LANG=C"),
            "{result}"
        );
    }
    let mut template = of(
        json!({"oci": {"ref": format!("{}/t/ocigzip:1", registry.host), "path": "bin/show.wasm"}}),
    );
    template["plugin"]["wasm"]["args"] = json!(["mine"]);
    template["plugin"]["wasm"]["env"] = json!([{"name": "LANG", "value": "de"}]);
    let node = executor.node(&template).await;
    let result = node["outputs"]["result"].as_str().unwrap_or_default();
    assert!(
        result.contains("args /bin/show.wasm|-v|mine|") && result.contains("env LANG=de"),
        "arguments and variables of the template replace those of the image: {node}"
    );
    let copied = format!("docker://{}/t/copied:1", registry.host);
    let source = format!("docker://{}/t/ocigzip:1", registry.host);
    run_tool(
        home,
        "skopeo",
        &[
            "--policy",
            &policy,
            "copy",
            "-q",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &source,
            &copied,
        ],
    );
    run_show(
        &executor,
        json!({"oci": format!("{}/t/copied:1", registry.host)}),
    )
    .await;
}

/// `oras push` stores an empty configuration. Without a type, it declares the layer as an archive.
#[tokio::test]
async fn artifacts_of_oras_run() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(guests::guest("show"), home.path().join("show.wasm")).unwrap();
    for (tag, file) in [
        ("plain", "show.wasm"),
        ("typed", "show.wasm:application/wasm"),
    ] {
        let target = format!("{}/o:{tag}", registry.host);
        let script = "import sys, oras.client; oras.client.OrasClient(insecure=True).push(target=sys.argv[1], files=[sys.argv[2]])";
        let mut oras = Command::new("python3");
        oras.args(["-c", script, &target, file])
            .env("PYTHONPATH", guests::program("oras"))
            .env("HOME", home.path())
            .current_dir(home.path());
        succeed(&mut oras);
        run_show(&executor, json!({"oci": target})).await;
    }
    let config = registry.put_blob("o", EMPTY, b"{}").await;
    let layer = registry.put_blob("o", TAR, &show()).await;
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.unknown.artifact.v1", "config": config, "layers": [layer]});
    registry
        .put_manifest("o", "untitled", MANIFEST, &manifest)
        .await;
    run_show(
        &executor,
        json!({"oci": format!("{}/o:untitled", registry.host)}),
    )
    .await;
}

/// The manifest and the configuration were made by `wkg oci push`: `integration/fixtures/wkg`.
#[tokio::test]
async fn a_component_pushed_with_wkg_runs() {
    let registry = Registry::start();
    let read = |path: &str| std::fs::read(guests::repository().join(path)).unwrap();
    let config = read("integration/fixtures/wkg/config.json");
    let module = read("modules/prebuilt/greeting.wasm");
    for blob in [&config, &module] {
        registry
            .put_blob("acme/greeting", "application/octet-stream", blob)
            .await;
    }
    let manifest = read("integration/fixtures/wkg/manifest.json");
    registry
        .put_bytes("acme/greeting", "1.0.0", MANIFEST, manifest)
        .await;
    let mut template = of(json!({"oci": format!("{}/acme/greeting:1.0.0", registry.host)}));
    template["inputs"] = json!({"parameters": [{"name": "name", "value": "wkg"}]});
    let node = insecure(&registry.host).node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        message(&node).ends_with(&format!("(module {})", Digest::of(&module).short())),
        "{node}"
    );
}

#[tokio::test]
async fn an_index_selects_the_wasm_platform() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let config = registry
        .put_blob("i", "application/vnd.oci.image.config.v1+json", b"{}")
        .await;
    let mut children = Vec::new();
    for (os, architecture, bytes) in [
        ("linux", "amd64", &b"\x7fELF"[..]),
        ("wasip1", "wasm", &show()),
        ("unknown", "unknown", b"{}"),
    ] {
        let layer = registry
            .put_blob(
                "i",
                "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
                bytes,
            )
            .await;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let digest = registry.put_manifest("i", os, MANIFEST, &manifest).await;
        children.push(json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.to_string().len(), "platform": {"os": os, "architecture": architecture}}));
    }
    children[2]["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
    let digest = registry.put_manifest("i", "all", INDEX, &index).await;
    run_show(
        &executor,
        json!({"oci": format!("{}/i:all", registry.host)}),
    )
    .await;
    run_show(
        &executor,
        json!({"oci": format!("{}/i@{digest}", registry.host)}),
    )
    .await;
    let others = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [children[0], {"mediaType": MANIFEST, "digest": children[0]["digest"], "size": children[0]["size"], "platform": {"os": "linux", "architecture": "arm64"}}]});
    registry.put_manifest("i", "native", INDEX, &others).await;
    let node = executor
        .node(&of(json!({"oci": format!("{}/i:native", registry.host)})))
        .await;
    assert!(
        message(&node).contains("its platforms are: linux/amd64, linux/arm64"),
        "{node}"
    );
}

#[tokio::test]
async fn one_of_several_modules_is_chosen_by_layer_or_component() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let config = registry
        .put_blob("s", "application/vnd.oci.image.config.v1+json", b"{}")
        .await;
    let mut one = registry.put_blob("s", "application/wasm", &show()).await;
    let mut other = registry
        .put_blob("s", "application/wasm", b"\0asm\x01\0\0\0")
        .await;
    let component = |id: &str, blob: &Value| json!({"id": id, "source": {"content_type": "application/wasm", "digest": blob["digest"]}});
    let application = json!({"spin_lock_version": 1, "components": [component("one", &one), component("other", &other)]});
    let application = registry
        .put_blob(
            "s",
            "application/vnd.fermyon.spin.application.v1+config",
            application.to_string().as_bytes(),
        )
        .await;
    one["annotations"] = json!({"org.opencontainers.image.title": "one.wasm"});
    other["annotations"] = json!({"org.opencontainers.image.title": "other.wasm"});
    let two = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [one, other]});
    registry.put_manifest("s", "two", MANIFEST, &two).await;
    let spin = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [application, one, other]});
    registry.put_manifest("s", "spin", MANIFEST, &spin).await;
    let reference = |tag: &str| format!("{}/s:{tag}", registry.host);
    let node = executor.node(&of(json!({"oci": reference("two")}))).await;
    assert!(
        message(&node).contains("2 modules") && message(&node).contains("(one.wasm, "),
        "{node}"
    );
    for layer in ["one.wasm", "0", one["digest"].as_str().unwrap()] {
        run_show(
            &executor,
            json!({"oci": {"ref": reference("two"), "layer": layer}}),
        )
        .await;
    }
    let node = executor.node(&of(json!({"oci": reference("spin")}))).await;
    assert!(
        message(&node).contains("its components are: one, other"),
        "{node}"
    );
    run_show(
        &executor,
        json!({"oci": {"ref": reference("spin"), "layer": "one"}}),
    )
    .await;
    run_show(
        &executor,
        json!(format!("oci://{}#layer=one", reference("spin"))),
    )
    .await;
}

/// Concurrent steps use two modules of one artifact. Each step gets the module that its template
/// names.
#[tokio::test]
async fn concurrent_steps_get_different_modules_of_one_artifact() {
    let registry = Registry::start();
    let executor = insecure(&registry.host);
    let config = registry
        .put_blob("b", "application/vnd.oci.image.config.v1+json", b"{}")
        .await;
    let modules = [
        show(),
        std::fs::read(guests::guest("noop-command")).unwrap(),
    ];
    let mut layers = Vec::new();
    for module in &modules {
        layers.push(registry.put_blob("b", "application/wasm", module).await);
    }
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let digest = registry.put_manifest("b", "1", MANIFEST, &manifest).await;
    let steps: Vec<Value> = (0..10)
        .map(|number| {
            of(json!({"oci": {"ref": format!("{}/b@{digest}", registry.host), "layer": (number % 2).to_string()}}))
        })
        .collect();
    let nodes = futures::future::join_all(steps.iter().map(|step| executor.node(step))).await;
    for (number, node) in nodes.iter().enumerate() {
        let expected = Digest::of(&modules[number % 2]).short();
        assert!(
            message(node).ends_with(&format!("module {expected}")),
            "{number}: {node}"
        );
    }
}

/// A module is unpacked and compiled once. A new process reuses the compiled code without the
/// registry.
#[tokio::test]
async fn unpacked_modules_are_reused_after_a_restart() {
    let registry = Registry::start();
    let cache = tempfile::tempdir().unwrap();
    let layer = packed("show.wasm", &show());
    registry
        .push(
            "p:1",
            "application/vnd.oci.image.config.v1+json",
            &[("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
        )
        .await;
    let flags = vec!["--insecure-registry".to_owned(), registry.host.clone()];
    let cache = cache.path().to_owned();
    let start = || {
        Executor::start_with(Options {
            flags: flags.clone(),
            cache: Some(cache.clone()),
            ..Options::default()
        })
    };
    let module = json!({"oci": format!("{}/p:1", registry.host)});
    let executor = start();
    run_show(&executor, module.clone()).await;
    run_show(&executor, module.clone()).await;
    assert_eq!(
        executor.log().matches(" compiled ").count(),
        1,
        "{}",
        executor.log()
    );
    drop((executor, registry));
    let executor = start();
    run_show(&executor, module).await;
    assert!(
        executor.log().contains("loaded compiled code"),
        "{}",
        executor.log()
    );
}
