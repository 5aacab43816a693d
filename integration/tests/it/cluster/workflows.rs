//! Workflows of all kinds.

use super::*;
use wasm_workflow_integration::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_of_one_step_needs_two_writes() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    let mut template = template("greeting");
    template["inputs"] = json!({"parameters": [{"name": "name", "value": "cluster"}]});
    cluster.submit("wf", vec![round("wf", 1, &template)]);
    let state = cluster.ended("wf").await;
    let node = &state.ended["wf-0"];
    assert_eq!(node["phase"], "Succeeded", "{node}");
    let result = node["outputs"].to_string();
    assert!(result.contains("cluster"), "{result}");
    assert_eq!(runs(&replica, "wf-0"), 1, "{}", replica.log());
    let requests = cluster.api.requests();
    assert_eq!(requests["PATCH workflowtasksets"], 1, "the claim");
    assert_eq!(requests["PATCH workflowtasksets/status"], 1, "the result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wide_workflow_is_written_in_batches() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    let rounds = vec![round("a", 200, &noop()), round("b", 200, &noop())];
    let started = Instant::now();
    cluster.submit("wf", rounds);
    let state = cluster.ended("wf").await;
    assert_eq!(state.ended.len(), 400);
    assert!(
        state
            .ended
            .values()
            .all(|node| node["phase"] == "Succeeded")
    );
    assert_eq!(replica.steps_run(), 400);
    let writes = cluster.api.requests()["PATCH workflowtasksets/status"];
    // While steps run, one write in each half of the requeue time.
    let periods = started.elapsed().div_duration_f64(REQUEUE_TIME / 2);
    let longest = 4.0 + periods;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let as_expected = (writes as f64) < longest;
    assert!(as_expected, "{writes} writes in {periods} periods");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_others_are_never_touched() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    let http = json!({"name": "h", "http": {"url": "http://x"}});
    let other = json!({"name": "o", "plugin": {"other": {}}});
    cluster.submit("http", vec![round("h", 1, &http)]);
    let mut mixed = round("m", 1, &noop());
    mixed.extend(round("o", 1, &other));
    cluster.submit("mixed", vec![mixed]);
    eventually("the plugin's own step ends", async || {
        cluster.controller.state("mixed").ended.contains_key("m-0")
    })
    .await;
    tokio::time::sleep(REQUEUE_TIME * 2).await;
    assert_eq!(cluster.owner("http"), None);
    assert_eq!(cluster.controller.state("mixed").ended.len(), 1);
    assert_eq!(replica.steps_run(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_workflow_interrupts_its_guests() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    cluster.submit("wf", vec![round("wf", 2, &template("spin"))]);
    eventually("the claim", async || cluster.owner("wf").is_some()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.controller.stop("wf");
    cluster.ended("wf").await;
    eventually("both steps are cancelled", async || {
        replica.steps_run() == 2
    })
    .await;
    assert!(
        !cluster
            .api
            .requests()
            .contains_key("PATCH workflowtasksets/status")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_with_a_timeout_is_reported_as_running() {
    let cluster = Cluster::start().await;
    let _replica = cluster.replica("r1", &[]);
    let mut template = template("spin");
    template["timeout"] = json!("2s");
    cluster.submit("wf", vec![round("wf", 1, &template)]);
    eventually("the phase Running", async || {
        let set = cluster.store.get(&task_set("wf"));
        set.is_some_and(|set| set["status"]["nodes"]["wf-0"]["phase"] == "Running")
    })
    .await;
    let state = cluster.ended("wf").await;
    let node = &state.ended["wf-0"];
    assert!(
        matches!(node["phase"].as_str(), Some("Failed" | "Error")),
        "{node}"
    );
    assert_eq!(cluster.api.requests()["PATCH workflowtasksets/status"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_selected_task_sets_are_served() {
    let cluster = Cluster::start().await;
    let _other = cluster.replica("r2", &["--instance-id", "other"]);
    let _elsewhere = cluster.replica("r3", &["--namespace", "elsewhere"]);
    cluster.submit("wf", vec![round("wf", 1, &noop())]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(cluster.owner("wf"), None);
    let _here = cluster.replica("r1", &["--namespace", "team"]);
    cluster.ended("wf").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_a_mistake_is_an_error_and_the_others_go_on() {
    let cluster = Cluster::start().await;
    let _replica = cluster.replica("r1", &[]);
    let mut tasks = round("good", 1, &noop());
    tasks.extend(round(
        "bad",
        1,
        &json!({"name": "t", "plugin": {"wasm": {"modul": "x"}}}),
    ));
    tasks.extend(round(
        "worse",
        1,
        &json!({"name": 7, "plugin": {"wasm": {"module": "x"}}}),
    ));
    cluster.submit("wf", vec![tasks]);
    let state = cluster.ended("wf").await;
    assert_eq!(state.ended["good-0"]["phase"], "Succeeded");
    for bad in ["bad-0", "worse-0"] {
        assert_eq!(state.ended[bad]["phase"], "Error", "{bad}");
        assert_ne!(state.ended[bad]["message"], "", "{bad}");
    }
}

/// The guest's result has 300 kB. Four of them do not fit into one object.
#[tokio::test(flavor = "multi_thread")]
async fn results_that_do_not_fit_wait_until_the_controller_has_read_others() {
    let cluster = Cluster::start().await;
    let _replica = cluster.replica("r1", &[]);
    let mut template = template("cat");
    template["plugin"]["wasm"]["stdin"] = json!("x".repeat(60_000));
    template["plugin"]["wasm"]["result"] = json!("text");
    cluster.submit("wf", vec![round("wf", 12, &template)]);
    let state = cluster.ended("wf").await;
    let succeeded = |node: &Value| node["phase"] == "Succeeded";
    assert!(
        state.ended.values().all(succeeded),
        "{:?}",
        state.ended.values().find(|node| !succeeded(node))
    );
}
