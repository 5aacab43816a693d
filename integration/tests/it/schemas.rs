//! The schemas in `docs/schemas`, compared with the documents that the program reads and writes.

use std::collections::BTreeSet;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use wasm_workflow_executor::argo;
use wasm_workflow_executor::step::Workflow;
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::guests::repository;

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn error(&self, instance: &Value) -> Option<String> {
        self.schemas
            .validate(instance, self.index)
            .err()
            .map(|error| format!("{error:#}"))
    }

    fn allows(&self, instance: &Value) -> bool {
        self.error(instance).is_none()
    }
}

fn schema(name: &str) -> Schema {
    let text =
        std::fs::read_to_string(repository().join(format!("docs/schemas/{name}.schema.json")))
            .unwrap();
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler
        .add_resource("schema.json", serde_json::from_str(&text).unwrap())
        .unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    Schema { schemas, index }
}

#[tokio::test]
async fn input_json_matches_its_schema() {
    let mut template = template("cat");
    template["inputs"] = json!({
        "parameters": [{"name": "p", "value": "v"}],
        "artifacts": [{"name": "a", "path": "/in/a", "raw": {"data": "x"}}],
    });
    template["plugin"]["wasm"]["args"] = json!(["/work/input.json"]);
    template["plugin"]["wasm"]["options"] = json!({"deep": {"a": [1, null]}, "flag": true});
    let node = Executor::start().node(&template).await;
    let input: Value = serde_json::from_str(node["outputs"]["result"].as_str().unwrap()).unwrap();
    assert_eq!(schema("work-input").error(&input), None, "{input}");
    assert_eq!(
        input["plugin_options"][0],
        json!({"name": "deep", "value": {"a": [1, null]}})
    );
    assert_eq!(input["artifacts"], json!([{"name": "a", "path": "/in/a"}]));
}

/// The executor accepts a result if and only if the schema allows it.
#[tokio::test]
async fn result_json_is_accepted_exactly_when_its_schema_allows_it() {
    let executor = Executor::start();
    let schema = schema("work-result");
    let results = [
        json!({}),
        json!({"phase": "Succeeded", "message": "m", "outputs": {"parameters": [{"name": "a-b", "value": {"x": 1}}], "artifacts": []}}),
        json!({"phase": null, "message": null, "outputs": null, "unknown": 1}),
        json!({"phase": "Running"}),
        json!({"message": 5}),
        json!({"outputs": {"parameters": [{"name": "a b", "value": ""}]}}),
        json!({"outputs": {"parameters": {}}}),
        json!([]),
    ];
    for result in results {
        let mut template = template("malformed-result");
        template["plugin"]["wasm"]["args"] = json!([result.to_string()]);
        let node = executor.node(&template).await;
        assert_eq!(
            schema.allows(&result),
            node["phase"] == "Succeeded",
            "{result}: {node}"
        );
    }
}

#[test]
fn documented_templates_match_the_template_schema() {
    let schema = schema("template");
    let text = std::fs::read_to_string(repository().join("docs/template.md")).unwrap();
    let mut names = BTreeSet::new();
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for document in wasm_workflow_executor::text::yaml::documents(block).unwrap() {
            if document.pointer("/plugin/wasm").is_some() {
                assert_eq!(schema.error(&document), None, "{document}");
                // `integration/argo-lint` reads the page as one WorkflowTemplate.
                let name = document["name"].as_str().unwrap().to_owned();
                assert!(
                    names.insert(name),
                    "two templates have this name: {document}"
                );
            }
        }
    }
    assert!(names.len() >= 3, "{names:?}");
}

/// The program accepts a template if and only if the schema allows it, so that an editor with the
/// schema shows the right errors.
#[test]
fn templates_are_accepted_exactly_when_their_schema_allows_them() {
    let schema = schema("template");
    let wasm = |wasm: Value| json!({"name": "t", "plugin": {"wasm": wasm}});
    let cases = [
        json!({"name": "t"}),
        wasm(json!({"module": "oci://h.io/a:1"})),
        wasm(
            json!({"module": {"oci": "h.io/a:1"}, "args": [1, true, "x"], "env": [{"name": "A", "value": 2.5}]}),
        ),
        wasm(
            json!({"module": {"oci": {"ref": "h.io/a:1", "layer": 1}}, "limits": {"memory": 1024, "time": "1m"}}),
        ),
        wasm(
            json!({"module": "oci://h.io/a:1", "permissions": {"http": {"max_concurrent_requests": "5"}}}),
        ),
        wasm(json!({"module": "oci://h.io/a:1", "timeuot": 1})),
        wasm(json!({"module": 5})),
        wasm(json!({"module": {}})),
        wasm(json!({"module": {"oci": "h.io/a:1", "wkg": "a:b"}})),
        wasm(
            json!({"module": "oci://h.io/a:1", "limits": null, "pull": null, "permissions": null, "options": null}),
        ),
        wasm(
            json!({"module": "oci://h.io/a:1", "permissions": {"http": {"maxConcurrentRequests": "abc"}}}),
        ),
        wasm(json!({"module": {"wapm": "acme/a@1.0.0"}})),
        wasm(
            json!({"module": {"wapm": {"package": "acme/a", "command": "b", "registry": "r.example"}}}),
        ),
        wasm(json!({"module": {"bindle": {"id": "a/1.0.0", "parcels": "x"}}})),
        wasm(json!({"module": {"http": "https://h/m"}})),
        wasm(
            json!({"module": {"http": {"url": "https://h/m", "authSecret": {"name": "s"}, "headers": {"accept": 1}}}}),
        ),
        json!({"name": "t", "plugin": {"wasm": {"module": "oci://h.io/a:1"}}, "daemon": "yes"}),
        json!({"name": "t", "plugin": {"wasm": {"module": "oci://h.io/a:1"}}, "daemon": "false", "inputs": null}),
        wasm(json!({"args": []})),
        wasm(json!({"module": "oci://h.io/a:1", "args": "x"})),
        wasm(json!({"module": "oci://h.io/a:1", "limits": {"memory": "1.5Gi"}})),
        wasm(json!({"module": "oci://h.io/a:1", "pull": {"policy": "Sometimes"}})),
        json!({"name": 7, "plugin": {"wasm": {"module": "oci://h.io/a:1"}}, "metadata": {"labels": {}}, "timeout": 60,
            "inputs": {"parameters": [{"name": "p", "value": 1}], "artifacts": [{"name": "a", "path": "/a", "raw": {"data": ""}}]}}),
        json!({"name": "t", "plugin": {"wasm": {"module": "oci://h.io/a:1"}}, "inputs": {"parameters": {}}}),
        json!({"name": "t", "plugin": {"wasm": {"module": "oci://h.io/a:1"}, "other": {}}}),
    ];
    // Argo's controller replaces this variable before the program reads the template.
    assert!(schema.allows(&wasm(
        json!({"module": "oci://h.io/a:1", "limits": {"memory": "{{inputs.parameters.m}}"}})
    )));
    for template in cases {
        let workflow = Workflow {
            name: String::new(),
            namespace: String::new(),
            uid: String::new(),
        };
        let read = matches!(argo::from_template(workflow, &template), Ok(Some(call)) if call.module().is_ok());
        assert_eq!(
            schema.error(&template).is_none(),
            read,
            "{template}: {:?}",
            schema.error(&template)
        );
    }
}
