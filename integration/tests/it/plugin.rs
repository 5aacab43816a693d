//! What an operator applies: the manifests, what `manifest` prints, the examples, and the image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use artifacts::Repository;
use serde_json::{Value, json};
use wasm_workflow_executor::argo::{self, Conversion, Placement};
use wasm_workflow_executor::config::Config;
use wasm_workflow_executor::step::{DefaultPlace, Workflow};
use wasm_workflow_executor::text::yaml;
use wasm_workflow_integration::executor::{program, request, template};
use wasm_workflow_integration::guests::{guest, repository};

use crate::layouts::tool;

fn documents(path: impl AsRef<Path>) -> Vec<Value> {
    let path = repository().join("plugin").join(path);
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    yaml::documents(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(flags: &[&str]) -> Result<Vec<Value>, String> {
    let output = Command::new(program())
        .arg("manifest")
        .args(flags)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// A plugin's ConfigMap with its container as what it says, and without what is each one's own.
fn read(mut map: Value) -> Value {
    let container = yaml::documents(map["data"]["sidecar.container"].as_str().unwrap())
        .unwrap()
        .swap_remove(0);
    map["data"]["sidecar.container"] = container;
    let metadata = map["metadata"].as_object_mut().unwrap();
    metadata.remove("creationTimestamp");
    metadata.remove("namespace");
    map
}

/// What `argo executor-plugin build` makes of a manifest (`workflow/util/plugin/configmap.go`).
fn built(manifest: &Value) -> Value {
    let sidecar = &manifest["spec"]["sidecar"];
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": format!("{}-executor-plugin", manifest["metadata"]["name"].as_str().unwrap()),
            "annotations": manifest["metadata"]["annotations"],
            "labels": {"workflows.argoproj.io/configmap-type": "ExecutorPlugin"},
        },
        "data": {
            "sidecar.automountServiceAccountToken": sidecar["automountServiceAccountToken"].to_string(),
            "sidecar.container": sidecar["container"],
        },
    })
}

#[test]
fn manifests_and_what_is_made_of_them_are_one() {
    for (directory, flags) in [
        ("", vec![]),
        ("with-api-access", vec!["--api-access"]),
        ("read-only-root", vec!["--read-only-root"]),
    ] {
        let directory = Path::new(directory);
        let map =
            read(documents(directory.join("wasm-executor-plugin-configmap.yaml")).swap_remove(0));
        assert_eq!(
            map,
            built(&documents(directory.join("plugin.yaml"))[0]),
            "argo executor-plugin build plugin/{directory:?}"
        );
        let mut printed = manifest(&flags).unwrap();
        assert_eq!(read(printed.pop().unwrap()), map, "manifest {flags:?}");
        let rbac = if flags == ["--api-access"] {
            documents("with-api-access/rbac.yaml")
        } else {
            Vec::new()
        };
        assert_eq!(printed, rbac, "manifest {flags:?}");
        let container = &map["data"]["sidecar.container"];
        let env: BTreeMap<&str, &str> = env(container).into_iter().collect();
        Config::from_text(env["WASM_WORKFLOW_CONFIG"], "the manifest").unwrap();
    }
    assert_eq!(
        documents("base/wasm-executor-plugin-configmap.yaml"),
        documents("wasm-executor-plugin-configmap.yaml")
    );
}

#[test]
fn a_manifest_is_filled_in() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    fs::write(&file, "limits: {memory: 1Gi}\n").unwrap();
    let flags = [
        "--namespace",
        "wf",
        "--image",
        "r.example.com/x:2",
        "--api-access",
        "--secret",
        "a",
        "--secret",
        "b",
    ];
    let printed = manifest(&[&flags[..], &["--config", file.to_str().unwrap()]].concat()).unwrap();
    let kinds: Vec<&str> = printed
        .iter()
        .map(|object| object["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "Secret",
            "Role",
            "RoleBinding",
            "ConfigMap"
        ]
    );
    assert!(
        printed
            .iter()
            .all(|object| object["metadata"]["namespace"] == "wf"),
        "{printed:?}"
    );
    assert_eq!(printed[3]["subjects"][0]["namespace"], "wf");
    assert_eq!(printed[2]["rules"][0]["resourceNames"], json!(["a", "b"]));
    let container = read(printed[4].clone())["data"]["sidecar.container"].clone();
    assert_eq!(container["image"], "r.example.com/x:2");
    assert_eq!(
        env(&container),
        [("WASM_WORKFLOW_CONFIG", "limits: {memory: 1Gi}\n")]
    );
    let repository = "artifacts: {repository: {s3: {endpoint: h, bucket: b, accessKeySecret: {name: keys, key: a}, secretKeySecret: {name: keys, key: s}}}}\n";
    let credentials = "sources: {files: /modules, credentials: [{host: ghcr.io, username: u, passwordFrom: {env: PASSWORD}}]}\n";
    fs::write(&file, format!("{repository}{credentials}")).unwrap();
    let with = |flags: &[&str]| {
        let output = Command::new(program())
            .args(["manifest", "--config"])
            .arg(&file)
            .args(flags)
            .output()
            .unwrap();
        (
            yaml::documents(&String::from_utf8(output.stdout).unwrap()).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (_, warnings) = with(&[]);
    for expected in [
        "add --env PASSWORD=SECRET/KEY",
        "`/modules`, and a plugin can mount nothing",
        "Secrets keys, which",
        "no image of this",
    ] {
        assert!(warnings.contains(expected), "{expected}: {warnings}");
    }
    let (printed, warnings) = with(&[
        "--api-access",
        "--env",
        "PASSWORD=ghcr/password",
        "--image",
        "x:1",
    ]);
    assert!(
        !warnings.contains("PASSWORD") && !warnings.contains("Secrets keys"),
        "{warnings}"
    );
    assert_eq!(
        printed[2]["rules"][0]["resourceNames"],
        json!(["regcred", "keys"])
    );
    let container = read(printed[4].clone())["data"]["sidecar.container"].clone();
    assert_eq!(
        container["env"][1]["valueFrom"],
        json!({"secretKeyRef": {"name": "ghcr", "key": "password"}})
    );
    for (flag, value) in [
        ("--image", "Foo Bar"),
        ("--image", ""),
        ("--image", "r/UPPER:1"),
        ("--namespace", "a.b"),
        ("--env", "A=b"),
        ("--env", "A B=s/k"),
    ] {
        assert!(
            manifest(&[flag, value]).unwrap_err().contains("it must"),
            "{flag} {value}"
        );
    }
    fs::write(&file, "limits: {memroy: 1Gi}\n").unwrap();
    assert!(
        manifest(&["--config", file.to_str().unwrap()])
            .unwrap_err()
            .contains("did you mean `memory`?")
    );
    assert!(
        manifest(&["--namespace", "A b"])
            .unwrap_err()
            .contains("must be the name of an object")
    );
    assert!(
        manifest(&["--secret", "a"])
            .unwrap_err()
            .contains("--api-access")
    );
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| {
            if path.is_dir() {
                yaml_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

/// With a word for each variable that Argo would fill in.
fn filled(value: &Value) -> Value {
    match value {
        Value::String(text) => {
            let mut filled = text.clone();
            while let Some((start, end)) = filled
                .find("{{")
                .and_then(|start| Some((start, start + filled[start..].find("}}")?)))
            {
                filled.replace_range(start..end + 2, "x");
            }
            filled.into()
        }
        Value::Array(items) => items.iter().map(filled).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), filled(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Every template of every example is one that the program takes; those of modules that are here run.
#[test]
fn examples_are_what_the_program_takes() {
    let place = DefaultPlace {
        repository: Repository::directory("/artifacts"),
        key: "wf".to_owned(),
        default: true,
        archive_logs: false,
    };
    let (mut taken, mut ran) = (0, 0);
    for file in yaml_files(&repository().join("plugin")) {
        for document in documents(&file) {
            assert!(
                document["kind"].is_string(),
                "{}: no object",
                file.display()
            );
            if !matches!(
                document["kind"].as_str(),
                Some("Workflow" | "WorkflowTemplate")
            ) {
                continue;
            }
            for template in document["spec"]["templates"].as_array().unwrap() {
                if template["plugin"]["wasm"].is_null() {
                    continue;
                }
                let mut given = filled(template);
                for parameter in given
                    .pointer_mut("/inputs/parameters")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    parameter["value"] = json!("x");
                }
                for artifact in given
                    .pointer_mut("/inputs/artifacts")
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    // What another step supplies has a key.
                    if !["raw", "http", "optional"]
                        .iter()
                        .any(|key| artifact.get(key).is_some())
                    {
                        artifact["s3"] = json!({"key": "from/another/step"});
                    }
                }
                let workflow = Workflow {
                    name: "wf".to_owned(),
                    namespace: "argo".to_owned(),
                    uid: String::new(),
                };
                let call = argo::from_template(workflow, &given)
                    .unwrap()
                    .expect("it is ours");
                let placement = Placement {
                    place: Some(Ok(place.clone())),
                    ..Placement::default()
                };
                let conversion = Conversion {
                    limits: Config::default().limits.step(),
                    placement,
                };
                call.into_step(&conversion)
                    .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                taken += 1;
                ran += u32::from(run(&file, template));
            }
        }
    }
    assert!(taken >= 18 && ran >= 11, "{taken} are taken, {ran} ran");
}

/// Runs it as a person would who has the module on their machine; `false` where it needs something else.
fn run(file: &Path, template: &Value) -> bool {
    let module = template["plugin"]["wasm"]["module"]
        .as_str()
        .and_then(|module| module.strip_prefix("oci://ghcr.io/wasm-workflow-executor/"));
    let Some(module) = module.and_then(|module| module.strip_suffix(":0.1.0")) else {
        return false;
    };
    // What other steps, or servers, would supply.
    let artifacts = template["inputs"]["artifacts"]
        .as_array()
        .into_iter()
        .flatten();
    let missing =
        artifacts.filter(|artifact| artifact.get("raw").is_none() && artifact["optional"] != true);
    let supplied = missing.flat_map(|artifact| {
        [
            "-a".to_owned(),
            format!("{}=LICENSE.txt", artifact["name"].as_str().unwrap()),
        ]
    });
    let directory = tempfile::tempdir().unwrap();
    let at = format!("{}#{}", file.display(), template["name"].as_str().unwrap());
    let module = repository().join(format!("modules/prebuilt/{module}.wasm"));
    let output = Command::new(program())
        .args(["run", "--template", &at])
        .arg(module)
        .args(supplied)
        .current_dir(repository())
        .arg("--output-dir")
        .arg(directory.path())
        .env("XDG_CACHE_HOME", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("Succeeded"),
        "{at}: {said}"
    );
    true
}

fn env(container: &Value) -> Vec<(&str, &str)> {
    let env = container["env"].as_array().into_iter().flatten();
    env.map(|variable| {
        (
            variable["name"].as_str().unwrap(),
            variable["value"].as_str().unwrap(),
        )
    })
    .collect()
}

fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: integration/test installs it"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A container without a container runtime: the image as its root, with what the kubelet would add, as the manifest's user.
const CONTAINER: &str = r#"
set -eu
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mount -t proc proc proc || mount --rbind /proc proc
mount --bind "$TOKEN" var/run/argo
mount --bind "$MODULES" modules
if [ "$READ_ONLY" = true ]; then
  mount -t tmpfs -o mode=0777,size=64m tmpfs tmp
  mount -o remount,bind,ro "$ROOT"
fi
exec env -i PATH="$PATH" WASM_WORKFLOW_CONFIG="$CONFIG" chroot --userspec="$RUN_AS:0" --groups= "$ROOT" /wasm-workflow-executor "$@"
"#;

struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The image has the program and what it needs, and nothing else; as each manifest says, it starts, runs a step, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_starts_as_each_manifest_says() {
    let home = tempfile::tempdir().unwrap();
    let built = Command::new(repository().join("plugin/image/build"))
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
        .env("BUILDER", "buildah")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let container = said(tool(home.path(), "buildah").args([
        "from",
        "--pull-never",
        "localhost/executor:test",
    ]));
    let root = PathBuf::from(said(
        tool(home.path(), "buildah").args(["mount", &container]),
    ));
    let config: Value = serde_json::from_str(&said(
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
    let files = said(
        Command::new("find")
            .args([".", "-type", "f"])
            .current_dir(&root),
    );
    for file in files.lines() {
        let name = file.rsplit('/').next().unwrap();
        let known =
            file == "./wasm-workflow-executor" || file == "./etc/ssl/certs/ca-certificates.crt";
        assert!(known || name.contains(".so"), "{file} is not needed");
    }
    let token = home.path().join("token");
    fs::create_dir(&token).unwrap();
    fs::write(token.join("token"), "secret-token").unwrap();
    said(Command::new("chown").arg("-R").arg("8737:0").arg(&token));
    said(Command::new("chmod").arg("0440").arg(token.join("token")));
    // Mount points, which a container runtime makes.
    for directory in ["proc", "var/run/argo", "modules"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for manifest in ["plugin.yaml", "read-only-root/plugin.yaml"] {
        let manifest = documents(manifest).swap_remove(0);
        start(&manifest["spec"]["sidecar"]["container"], &root, &token).await;
    }
}

async fn start(container: &Value, root: &Path, token: &Path) {
    let read_only = container["securityContext"]["readOnlyRootFilesystem"] == true;
    let address = format!("127.0.0.1:{}", wasm_workflow_integration::free_port());
    let words = |value: &Value| {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    // As the manifest has it, but where it listens; and with modules in files, since there is no registry.
    let config = format!("{}\nsources: {{files: /modules}}\n", env(container)[0].1);
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", CONTAINER, "sh"])
        .args(words(&container["args"]))
        .args(["--bind", &address])
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
    let get = async |path: &str| {
        client
            .get(format!("http://{address}{path}"))
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 200)
    };
    wasm_workflow_integration::eventually("readiness", async || get("/readyz").await).await;
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
        let answer = call.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(post("wrong").await.0, 403);
    let (status, text) = post("secret-token").await;
    assert!(
        status == 200 && text.contains(r#"{"name":"words","value":"4"}"#),
        "{text}"
    );
    said(Command::new("kill").arg(child.0.id().to_string()));
    let ended = tokio::time::timeout(
        Duration::from_secs(10),
        tokio::task::spawn_blocking(move || child.0.wait().unwrap().code()),
    );
    assert_eq!(ended.await.unwrap().unwrap(), Some(0));
}
