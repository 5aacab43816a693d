//! The schemas in `docs/schemas`, held against what is really written and read.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::guests::repository;

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn error(&self, instance: &Value) -> Option<String> {
        self.schemas.validate(instance, self.index).err().map(|error| format!("{error:#}"))
    }

    fn allows(&self, instance: &Value) -> bool {
        self.error(instance).is_none()
    }
}

fn schema(name: &str) -> Schema {
    let text = std::fs::read_to_string(repository().join(format!("docs/schemas/{name}.schema.json"))).unwrap();
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("schema.json", serde_json::from_str(&text).unwrap()).unwrap();
    let index = compiler.compile("schema.json", &mut schemas).unwrap();
    Schema { schemas, index }
}

#[tokio::test]
async fn real_input_has_the_schema_of_input() {
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
    assert_eq!(input["plugin_options"][0], json!({"name": "deep", "value": {"a": [1, null]}}));
    assert_eq!(input["artifacts"], json!([{"name": "a", "path": "/in/a"}]));
}

/// What the schema of results allows is taken, and what it forbids is refused.
#[tokio::test]
async fn the_schema_of_results_and_the_executor_agree() {
    let (executor, schema) = (Executor::start(), schema("work-result"));
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
        assert_eq!(schema.allows(&result), node["phase"] == "Succeeded", "{result}: {node}");
    }
}

#[test]
fn the_examples_of_templates_have_the_schema_of_templates() {
    let schema = schema("template");
    let text = std::fs::read_to_string(repository().join("docs/template.md")).unwrap();
    let mut examples = 0;
    for block in text.split("```yaml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for document in wasm_workflow_executor::yaml::documents(block).unwrap() {
            if let Some(wasm) = document.pointer("/plugin/wasm") {
                assert_eq!(schema.error(wasm), None, "{wasm}");
                examples += 1;
            }
        }
    }
    assert!(examples >= 3, "{examples} examples");
}
