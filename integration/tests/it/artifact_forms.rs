//! Argo's forms of artifacts, each with the content that its consumer receives. The forms are in
//! `integration/fixtures/artifact-forms.yaml`. Python makes and reads the archives.

use std::process::Command;

use serde_json::{Map, Value, json};
use wasm_workflow_executor::text::yaml;
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::other_programs::stdout_of;
use wasm_workflow_integration::s3::S3;

use crate::message;

/// Program in Python: `make KIND FILE JSON` makes an archive, and `read KIND FILE` prints its files
/// as JSON.
const ARCHIVES: &str = r#"
import io, json, sys, tarfile, zipfile
action, kind, path = sys.argv[1:4]
if action == "make" and kind == "zip":
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in json.loads(sys.argv[4]).items():
            archive.writestr(name, text)
elif action == "make":
    with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as archive:
        for name, text in json.loads(sys.argv[4]).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
elif kind == "zip":
    with zipfile.ZipFile(path) as archive:
        print(json.dumps({name: archive.read(name).decode() for name in archive.namelist()}))
else:
    with tarfile.open(path, "r:gz") as archive:
        files = [entry for entry in archive if entry.isfile()]
        print(json.dumps({entry.name: archive.extractfile(entry).read().decode() for entry in files}))
"#;

fn python(arguments: &[&str]) -> String {
    let mut python = Command::new("python3");
    stdout_of(python.args(["-c", ARCHIVES]).args(arguments))
}

/// The only key of a map, and its value.
fn only(map: &Map<String, Value>) -> (&str, &Value) {
    let (key, value) = map.iter().next().unwrap();
    (key, value)
}

/// Stores an object: a text, or an archive.
fn put(s3: &S3, key: &str, object: &Value) {
    match object {
        Value::String(text) => s3.put(key, text),
        object => {
            let (kind, files) = only(object.as_object().unwrap());
            s3.put(key, "");
            python(&[
                "make",
                kind,
                s3.object(key).to_str().unwrap(),
                &files.to_string(),
            ]);
        }
    }
}

/// Checks the stored object: a text, an archive, or files below the key.
fn check(s3: &S3, key: &str, holds: &Value, form: &str) {
    let file = s3.object(key);
    let Value::Object(holds) = holds else {
        assert_eq!(
            json!(std::fs::read_to_string(&file).unwrap()),
            *holds,
            "{form}"
        );
        return;
    };
    let (kind, expected) = only(holds);
    let found: Value = if kind == "files" {
        let below = |(name, _): (&String, &Value)| {
            (
                name.clone(),
                json!(std::fs::read_to_string(file.join(name)).unwrap()),
            )
        };
        expected
            .as_object()
            .unwrap()
            .iter()
            .map(below)
            .collect::<Map<_, _>>()
            .into()
    } else {
        serde_json::from_str(&python(&["read", kind, file.to_str().unwrap()])).unwrap()
    };
    assert_eq!(found, *expected, "{form}");
}

fn named(artifact: &Value) -> Value {
    let mut artifact = artifact.clone();
    artifact["name"] = json!("artifact");
    artifact
}

#[tokio::test(flavor = "multi_thread")]
async fn artifact_forms_arrive_as_in_argo() {
    let text = std::fs::read_to_string(
        guests::repository().join("integration/fixtures/artifact-forms.yaml"),
    )
    .unwrap();
    let s3 = S3::start().await;
    let documents =
        yaml::documents(&text.replace("ENDPOINT", &format!("\"{}\"", s3.endpoint))).unwrap();
    let config = json!({"artifacts": {"repository": {"s3": s3.bucket()}}, "sources": {"fileRoot": guests::directory()}});
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment(),
        ..Options::default()
    });
    let forms = documents.iter().find_map(Value::as_array).unwrap();
    assert!(forms.len() > 20, "{}", forms.len());
    for form in forms {
        let name = form["form"].as_str().unwrap();
        for (key, object) in form["objects"].as_object().into_iter().flatten() {
            put(&s3, key, object);
        }
        let step = if form["input"].is_object() {
            let mut step = template("cat");
            step["inputs"] = json!({"artifacts": [named(&form["input"])]});
            step["plugin"]["wasm"]["args"] = json!([form["read"]]);
            step
        } else {
            let mut step = template("word-count");
            step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": "made"}}]});
            // The executor creates the parent directories of declared paths. The parameter makes it
            // create /out.
            let parameter =
                json!({"name": "p", "valueFrom": {"path": "/out/none", "default": "d"}});
            step["outputs"] =
                json!({"artifacts": [named(&form["output"])], "parameters": [parameter]});
            step["archiveLocation"] = form["archiveLocation"].clone();
            step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/result"]);
            step
        };
        let node = executor.node(&step).await;
        if let Some(expected) = form["error"].as_str() {
            assert!(
                node["phase"] == "Error" && message(&node).contains(expected),
                "{name}: {node}"
            );
            continue;
        }
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
        if form["input"].is_object() {
            assert_eq!(
                node["outputs"]["result"], form["receives"],
                "{name}: {node}"
            );
        } else if form["none"] == true {
            assert!(node["outputs"]["artifacts"].is_null(), "{name}: {node}");
        } else {
            let produced = &node["outputs"]["artifacts"][0];
            let key = produced["s3"]["key"].as_str().unwrap();
            assert!(
                key.ends_with(form["key"].as_str().unwrap()),
                "{name}: {node}"
            );
            assert_eq!(
                produced["archive"], form["output"]["archive"],
                "the output names its archive strategy: {name}: {node}"
            );
            check(&s3, key, &form["holds"], name);
        }
        for (key, _) in form["objects"].as_object().into_iter().flatten() {
            std::fs::remove_file(s3.object(key)).unwrap();
        }
    }
}
