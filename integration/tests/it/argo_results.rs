//! Results of steps in loops, and timeouts, with the doubles of Argo's agent and controller.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wasm_workflow_integration::agent::{Agent, Options, Plugin, Status};
use wasm_workflow_integration::executor::{self, Executor, template};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::kubernetes::Kubernetes;

use crate::message;

const UID: &str = "5d3c7f6e-0000-4000-8000-00000000000a";

fn metadata() -> Value {
    json!({"metadata": {"name": "wf", "namespace": "argo", "uid": UID}})
}

fn agent(executor: &Executor) -> Agent {
    let plugin = Plugin {
        url: executor.url.clone(),
        token: executor.token.clone(),
    };
    let options = Options {
        patch_rate: Duration::from_millis(100),
        ..Options::default()
    };
    Agent::new(vec![plugin], options)
}

/// An executor with these settings of `agent`.
fn with_agent(settings: Value, flags: Vec<String>) -> Executor {
    let sources = json!({"fileRoot": guests::directory()});
    Executor::with_config(&json!({"sources": sources, "agent": settings}), flags)
}

/// The template `say`, which prints plain text.
fn say(text: &str) -> Value {
    let mut template = template("ferris-says");
    template["name"] = json!("say");
    template["inputs"] = json!({"parameters": [{"name": "text", "value": text}]});
    template
}

/// Runs `say` once for each item of a loop, and once outside of it. `edit` changes a template
/// before the agent sends it; it gets the name of the node.
async fn run_loop(executor: &Executor, edit: impl Fn(&str, &mut Value)) -> Status {
    let names = ["wf[0].one", "wf[1].each(0:a)", "wf[1].each(1:b)"];
    let nodes: BTreeMap<String, Value> = names
        .into_iter()
        .map(|name| {
            let mut template = say(name);
            edit(name, &mut template);
            (name.to_owned(), template)
        })
        .collect();
    let status = agent(executor).run(&metadata(), &nodes).await;
    assert_eq!(status.nodes.len(), names.len(), "{status:?}");
    for node in status.nodes.values() {
        assert_eq!(node["phase"], "Succeeded", "{node}");
    }
    status
}

fn result<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.nodes[name]["outputs"]["result"].as_str()
}

/// A Workflow with the nodes of [`run_loop`]. `references` are the references to results in the
/// template `main`.
fn workflow(references: &[&str]) -> Value {
    let node = |name: &str| {
        json!({"type": "Plugin", "templateName": "say", "phase": "Pending", "name": name, "boundaryID": "wf",
            "inputs": {"parameters": [{"name": "text", "value": name}]}})
    };
    let main = json!({"name": "main", "steps": [
        [{"name": "one", "template": "say"}],
        [{"name": "each", "template": "say", "withItems": ["a", "b"]}],
        [{"name": "last", "template": "other", "arguments": {"parameters": [{"name": "p", "value": references.concat()}]}}],
    ]});
    json!({
        "metadata": {"uid": UID},
        "spec": {"entrypoint": "main", "templates": [main, {"name": "say", "plugin": {"wasm": {}}}, {"name": "other", "suspend": {}}]},
        "status": {"phase": "Running", "nodes": {
            "wf": {"type": "Steps", "templateName": "main", "templateScope": "local/wf", "name": "wf", "phase": "Running"},
            "1": node("wf[0].one"), "2": node("wf[1].each(0:a)"), "3": node("wf[1].each(1:b)"),
        }},
    })
}

/// Without access to the Workflow and without an `id`, plain text is not sent, because it would end
/// the workflow with an error. The message of the node explains this.
#[tokio::test]
async fn plain_text_in_a_loop_does_not_end_the_workflow() {
    let executor = Executor::start();
    let status = run_loop(&executor, |_, _| {}).await;
    assert_eq!(status.error, None);
    for name in ["wf[0].one", "wf[1].each(0:a)"] {
        assert_eq!(result(&status, name), None);
        let message = message(&status.nodes[name]);
        assert!(message.contains("set `plugin.wasm.result`"), "{message}");
    }
    // The double of the controller parses results as Argo does.
    let status = run_loop(&executor, |_, template| {
        template["plugin"]["wasm"]["result"] = json!("text");
    })
    .await;
    assert!(status.error.is_some_and(|error| error.contains("expected")));
}

#[tokio::test]
async fn an_id_with_the_name_of_the_node_decides_about_the_result() {
    let executor = Executor::start();
    let status = run_loop(&executor, |name, template| {
        template["plugin"]["wasm"]["id"] = json!(format!("{name}/0"));
    })
    .await;
    assert_eq!(status.error, None);
    let text = result(&status, "wf[0].one").unwrap();
    assert!(text.contains("< wf[0].one >"), "{text}");
    let quoted = result(&status, "wf[1].each(1:b)").unwrap();
    let text: String = serde_json::from_str(quoted).unwrap();
    assert!(text.contains("< wf[1].each(1:b) >"), "{text}");
}

#[tokio::test]
async fn the_key_result_decides_about_the_result() {
    let executor = Executor::start();
    let with = async |format: &str| {
        run_loop(&executor, |_, template| {
            template["plugin"]["wasm"]["result"] = json!(format);
        })
        .await
    };
    let json = with("json").await;
    assert_eq!(json.error, None);
    assert!(result(&json, "wf[0].one").unwrap().starts_with("\" "));
    let none = with("none").await;
    assert_eq!(
        (none.error.as_deref(), result(&none, "wf[0].one")),
        (None, None)
    );
    let message = message(&none.nodes["wf[0].one"]);
    assert!(!message.contains("plugin.wasm.result"), "{message}");
    let mut wrong = say("a");
    wrong["plugin"]["wasm"]["result"] = json!("yaml");
    let node = executor.node(&wrong).await;
    assert_eq!(node["phase"], "Error", "{node}");
}

/// With access to the Workflow, a step sends its result as a container step would: only if its
/// parent refers to the result. In a loop, plain text becomes a JSON string.
#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_decides_about_the_result() {
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    let start = || with_agent(json!({}), kubernetes.flags(home.path()));
    let one = "{{steps.one.outputs.result}}";
    let each = "{{steps.each.outputs.result}}";
    for (references, one_is_sent, each_is_sent) in [
        (&[][..], false, false),
        (&[one], true, false),
        (&[each], false, true),
        (&[one, each], true, true),
    ] {
        kubernetes.put("workflows/wf", workflow(references));
        let status = run_loop(&start(), |_, _| {}).await;
        assert_eq!(status.error, None, "{references:?}");
        let single = result(&status, "wf[0].one");
        assert_eq!(single.is_some(), one_is_sent, "{references:?}");
        assert!(single.is_none_or(|text| text.contains("< wf[0].one >")));
        let iteration = result(&status, "wf[1].each(0:a)");
        assert_eq!(iteration.is_some(), each_is_sent, "{references:?}");
        for node in status.nodes.values() {
            assert!(!message(node).contains("plugin.wasm.result"), "{node}");
        }
    }
    // The executor may not read the Workflow.
    kubernetes.forbid("workflows/wf");
    let status = run_loop(&start(), |_, _| {}).await;
    assert_eq!(
        (status.error.as_deref(), result(&status, "wf[0].one")),
        (None, None)
    );
}

/// A step without artifacts does not wait for the repository in the Workflow's status.
#[tokio::test(flavor = "multi_thread")]
async fn only_steps_with_artifacts_wait_for_the_artifact_repository() {
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    kubernetes.put("workflows/wf", json!({"status": {"phase": "Running"}}));
    let executor = with_agent(json!({}), kubernetes.flags(home.path()));
    let reads = || {
        let requests = kubernetes.requests();
        requests
            .iter()
            .filter(|path| path.ends_with("workflows/wf"))
            .count()
    };
    let mut without = say("a");
    without["plugin"]["wasm"]["result"] = json!("text");
    assert_eq!(executor.node(&without).await["phase"], "Succeeded");
    assert_eq!(reads(), 1);
    let mut with = without.clone();
    with["inputs"]["artifacts"] = json!([{"name": "a", "path": "/a", "raw": {"data": "x"}}]);
    executor.node(&with).await;
    assert_eq!(reads(), 1 + 6, "the status never names a repository");
}

/// With a `timeout`, the node is `Running`. So the executor's own timeout decides, and not the
/// controller's, which would fail the whole group of steps. The controller learns of the phase more
/// than two seconds before its own timeout, so a busy machine does not change the outcome.
#[tokio::test]
async fn the_executors_own_timeout_ends_a_step_with_a_timeout() {
    let executor = with_agent(json!({"wait": "200ms"}), Vec::new());
    let mut timed = template("spin");
    timed["timeout"] = json!("3s");
    let mut untimed = template("spin");
    untimed["plugin"]["wasm"]["limits"] = json!({"time": "2s"});
    let nodes = BTreeMap::from([("timed".to_owned(), timed), ("untimed".to_owned(), untimed)]);
    let status = agent(&executor).run(&metadata(), &nodes).await;
    assert!(status.running.contains("timed") && !status.running.contains("untimed"));
    let timed = &status.nodes["timed"];
    assert_eq!(timed["phase"], "Failed", "{timed}");
    assert!(message(timed).contains("timeout of 3s exceeded"), "{timed}");
    assert!(message(&status.nodes["untimed"]).contains("time limit of 2s exceeded"));
}

/// `pendingTimeout` limits the time before the step starts, as for containers.
#[tokio::test]
async fn a_step_with_a_pending_timeout_is_reported_as_running_once() {
    let executor = with_agent(json!({"wait": "200ms"}), Vec::new());
    let mut spin = template("spin");
    let reply = async |template: &Value| {
        let body = executor::request(template).to_string();
        executor.post(body, &executor.token).await.body
    };
    assert_eq!(reply(&spin).await, r#"{"node":{},"requeue":"1s"}"#);
    spin["pendingTimeout"] = json!("1m");
    let running = r#"{"node":{"phase":"Running"},"requeue":"1s"}"#;
    assert_eq!(reply(&spin).await, running);
    // A later reply could overwrite the phase of a node that the controller has ended.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(reply(&spin).await, r#"{"node":{},"requeue":"1s"}"#);
}

/// The caller disconnects before the first reply. The `id` lets the second call find the execution
/// also if the executor has not noticed this yet.
#[tokio::test]
async fn the_phase_running_is_reported_again_if_the_connection_broke() {
    let executor = with_agent(json!({"wait": "10s"}), Vec::new());
    let mut spin = template("spin");
    spin["timeout"] = json!("1m");
    spin["plugin"]["wasm"]["id"] = json!("wf.spin");
    let body = executor::request(&spin).to_string();
    let call = || executor.post(body.clone(), &executor.token);
    let broken = tokio::time::timeout(Duration::from_millis(100), call()).await;
    assert!(broken.is_err(), "the first reply takes a second");
    let running = r#"{"node":{"phase":"Running"},"requeue":"1s"}"#;
    assert_eq!(call().await.body, running);
    assert_eq!(call().await.body, r#"{"node":{},"requeue":"1s"}"#);
}

/// The deadline of the workflow ends a step that the controller does not end, and the outcome is
/// `Failed`, as for a container.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_the_workflow_ends_its_steps() {
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    let started = now_as_kubernetes_writes_it();
    let node = json!({"type": "Plugin", "templateName": "spin", "phase": "Running"});
    kubernetes.put(
        "workflows/wf",
        json!({"spec": {"activeDeadlineSeconds": 6}, "status": {"phase": "Running", "startedAt": started, "nodes": {"1": node}}}),
    );
    let agent = json!({"wait": "500ms", "workflowPollInterval": "1s"});
    let executor = with_agent(agent, kubernetes.flags(home.path()));
    let mut spin = template("spin");
    spin["name"] = json!("spin");
    let node = executor.node(&spin).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    assert_eq!(
        message(&node),
        "the workflow's `activeDeadlineSeconds` ended the step"
    );
    assert!(
        executor
            .log()
            .contains("`activeDeadlineSeconds` has passed")
    );
}

/// The step has an artifact, so it waits for the workflow's repository before it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_the_deadline_ends_before_it_starts_has_failed() {
    let kubernetes = Kubernetes::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut late = workflow(&[]);
    late["metadata"] = json!({});
    late["spec"]["activeDeadlineSeconds"] = json!(1);
    late["status"]["startedAt"] = json!("2020-01-01T00:00:00Z");
    kubernetes.put("workflows/wf", late);
    let often = json!({"workflowPollInterval": "100ms"});
    let executor = with_agent(often, kubernetes.flags(home.path()));
    let mut step = template("spin");
    step["name"] = json!("say");
    step["inputs"] = json!({"artifacts": [{"name": "a", "path": "/a", "raw": {"data": "x"}}]});
    let node = executor.node(&step).await;
    assert_eq!(node["phase"], "Failed", "{node}");
    assert_eq!(
        message(&node),
        "the workflow's `activeDeadlineSeconds` ended the step"
    );
}

/// The time now, as Kubernetes writes it.
fn now_as_kubernetes_writes_it() -> String {
    let now = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .unwrap();
    String::from_utf8(now.stdout).unwrap().trim().to_owned()
}
