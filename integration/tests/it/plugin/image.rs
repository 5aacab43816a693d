//! The container image, started as each manifest says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::executor::{program, request, template};
use wasm_workflow_integration::guests::{guest, repository};
use wasm_workflow_integration::other_programs::{stdout_of, succeed};

use super::{documents, env};
use crate::layouts::tool;

/// Shell script that starts a container without a container runtime. The image is the root
/// directory, the script adds the mounts of the kubelet, and the user is the one of the manifest.
const CONTAINER: &str = r#"
set -eu
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mount -t proc proc proc || mount --rbind /proc proc
mount --bind "$TOKEN" var/run/argo
mount --bind "$MODULES" modules
if [ "$READ_ONLY" = true ]; then
  mount -t tmpfs -o mode=0777,size=128m tmpfs tmp
  mount -o remount,bind,ro "$ROOT"
fi
exec env -i PATH="$PATH" WASM_WORKFLOW_CONFIG="$CONFIG" chroot --userspec="$RUN_AS:0" --groups= "$ROOT" /wasm-workflow-executor "$@"
"#;

/// A running container. It is killed when this value is dropped.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The image contains only the program and the files that the program needs. With the settings of
/// each manifest, the container starts, runs a step, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_a_step_as_each_manifest_configures_it() {
    let home = tempfile::tempdir().unwrap();
    let mut build = Command::new(repository().join("plugin/image/build"));
    build
        .args([
            "--program".as_ref(),
            program().as_os_str(),
            "localhost/executor:test".as_ref(),
        ])
        .envs(
            tool(home.path(), "buildah")
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("BUILDER", "buildah");
    succeed(&mut build);
    let container = stdout_of(tool(home.path(), "buildah").args([
        "from",
        "--pull-never",
        "localhost/executor:test",
    ]));
    let root = PathBuf::from(stdout_of(
        tool(home.path(), "buildah").args(["mount", &container]),
    ));
    let config: Value = serde_json::from_str(&stdout_of(
        tool(home.path(), "buildah").args(["inspect", &container]),
    ))
    .unwrap();
    let config = &config["OCIv1"]["config"];
    assert_eq!(
        (&config["User"], &config["Entrypoint"], &config["Cmd"]),
        (
            &json!("8737"),
            &json!(["/wasm-workflow-executor"]),
            &json!(["serve"])
        )
    );
    let files = stdout_of(
        Command::new("find")
            .args([".", "-type", "f"])
            .current_dir(&root),
    );
    for file in files.lines() {
        let name = file.rsplit('/').next().unwrap();
        let known =
            file == "./wasm-workflow-executor" || file == "./etc/ssl/certs/ca-certificates.crt";
        assert!(
            known || name.contains(".so"),
            "the program does not need {file}"
        );
    }
    let token = home.path().join("token");
    fs::create_dir(&token).unwrap();
    fs::write(token.join("token"), "secret-token").unwrap();
    stdout_of(Command::new("chown").arg("-R").arg("8737:0").arg(&token));
    stdout_of(Command::new("chmod").arg("0440").arg(token.join("token")));
    // A container runtime creates these mount points.
    for directory in ["proc", "var/run/argo", "modules"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for manifest in ["plugin.yaml", "read-only-root/plugin.yaml"] {
        let manifest = documents(manifest).swap_remove(0);
        run_container(&manifest["spec"]["sidecar"]["container"], &root, &token).await;
    }
}

/// Starts the container of a manifest, runs a step, and stops the container.
async fn run_container(container: &Value, root: &Path, token: &Path) {
    let read_only = container["securityContext"]["readOnlyRootFilesystem"] == true;
    let address = format!("127.0.0.1:{}", wasm_workflow_integration::free_port());
    let admin_address = format!("127.0.0.1:{}", wasm_workflow_integration::free_port());
    let words = |value: &Value| {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // The settings of the manifest, with two changes: the address, and modules from files, because
    // there is no registry.
    let config = format!("{}\nsources: {{fileRoot: /modules}}\n", env(container)[0].1);
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", CONTAINER, "sh"])
        .args(words(&container["args"]))
        .args(["--bind", &address, "--admin-bind", &admin_address])
        .env("ROOT", root)
        .env("TOKEN", token)
        .env("READ_ONLY", read_only.to_string())
        .env(
            "RUN_AS",
            container["securityContext"]["runAsUser"].to_string(),
        )
        .env("CONFIG", config)
        .env("MODULES", guest("word-count").parent().unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut child = Container(child);
    let client = wasm_workflow_integration::http();
    let ready = async || {
        client
            .get(format!("http://{admin_address}/readyz"))
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    };
    wasm_workflow_integration::eventually("readiness", ready).await;
    let status = fs::read_to_string(format!("/proc/{}/status", child.0.id())).unwrap();
    assert!(
        status.contains("Uid:\t8737\t8737") && status.contains("Gid:\t0\t0"),
        "{status}"
    );
    let mut step = template("word-count");
    step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": "to be or not"}}]});
    step["outputs"] =
        json!({"parameters": [{"name": "words", "valueFrom": {"path": "/out/words"}}]});
    let wasm = &mut step["plugin"]["wasm"];
    wasm["module"] = json!(format!(
        "file:///modules/{}",
        guest("word-count").file_name().unwrap().display()
    ));
    wasm["args"] = json!(["/in/text", "/out/copy", "/out/words"]);
    let post = async |token: &str| {
        let call = client
            .post(format!("http://{address}/api/v1/template.execute"))
            .bearer_auth(token)
            .body(request(&step).to_string());
        call.send().await.unwrap()
    };
    assert_eq!(post("wrong").await.status(), 403);
    let answer = post("secret-token").await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(
        status == 200 && text.contains(r#"{"name":"words","value":"4"}"#),
        "{text}"
    );
    stdout_of(Command::new("kill").arg(child.0.id().to_string()));
    let ended = tokio::time::timeout(
        Duration::from_secs(10),
        tokio::task::spawn_blocking(move || child.0.wait().unwrap().code()),
    );
    assert_eq!(ended.await.unwrap().unwrap(), Some(0));
}
