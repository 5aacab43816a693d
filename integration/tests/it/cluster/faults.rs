//! Faults of the controller, of the API server, and of the replica.

use super::*;
use wasm_workflow_integration::cluster::api::Faults;
use wasm_workflow_integration::cluster::controller::Death;
use wasm_workflow_integration::eventually;

/// Wherever the controller dies, a step that has succeeded does not run again.
#[tokio::test(flavor = "multi_thread")]
async fn the_controller_dies_between_its_writes() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    let deaths = [
        Death::BeforeCleanup,
        Death::BetweenCleanups,
        Death::BeforeStore,
    ];
    for (number, death) in deaths.into_iter().enumerate() {
        cluster.controller.die(death);
        let name = format!("wf{number}");
        cluster.submit(
            &name,
            vec![
                round(&name, 5, &noop()),
                round(&format!("{name}b"), 1, &noop()),
            ],
        );
        let state = cluster.ended(&name).await;
        assert_eq!(state.ended.len(), 6, "{death:?}");
        for (node, result) in &state.ended {
            assert_eq!(result["phase"], "Succeeded", "{death:?}");
            assert_eq!(runs(&replica, node), 1, "{death:?} {node}");
        }
        assert!(state.changed.is_empty(), "{death:?} {state:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_continues_with_its_id() {
    let cluster = Cluster::start().await;
    let mut replica = cluster.replica("r1", &[]);
    let mut tasks = round("fast", 3, &noop());
    let slow = ends_after("3s");
    tasks.extend(round("slow", 1, &slow));
    cluster.submit("wf", vec![tasks]);
    eventually("the fast steps end", async || {
        cluster.controller.state("wf").ended.len() == 3
    })
    .await;
    replica.kill_and_restart();
    let state = cluster.ended("wf").await;
    assert_eq!(state.ended.len(), 4);
    let message = state.ended["slow-0"]["message"]
        .as_str()
        .unwrap_or_default();
    assert!(message.contains("time limit of 3s exceeded"), "{state:?}");
    for node in ["fast-0", "fast-1", "fast-2"] {
        assert_eq!(runs(&replica, node), 1, "{node} had a result before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_api_server_lose_no_step() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    cluster.api.set_faults(Faults {
        before: 0.1,
        after: 0.1,
        conflicts: 0.2,
    });
    for number in 0..10 {
        let name = format!("wf{number}");
        let rounds = vec![
            round(&format!("{name}a"), 10, &noop()),
            round(&format!("{name}b"), 1, &noop()),
        ];
        cluster.submit(&name, rounds);
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.store.compact();
    }
    for number in 0..10 {
        let state = cluster.ended(&format!("wf{number}")).await;
        assert_eq!(state.ended.len(), 11);
        assert!(
            state.wedged.is_none() && state.changed.is_empty(),
            "{state:?}"
        );
        for (node, result) in &state.ended {
            assert_eq!(result["phase"], "Succeeded");
            assert_eq!(runs(&replica, node), 1, "{node}");
        }
    }
}

/// The second workflow has the same name, and the same ids of nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_deleted_and_created_again_runs_anew() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    cluster.submit(
        "wf",
        vec![
            round("wf", 1, &noop()),
            round("never", 1, &template("spin")),
        ],
    );
    eventually("the first round ends", async || {
        cluster.controller.state("wf").round == 2
    })
    .await;
    cluster.controller.delete("wf");
    cluster.submit("wf", vec![round("wf", 1, &noop())]);
    cluster.ended("wf").await;
    assert_eq!(runs(&replica, "wf-0"), 2);
}

/// A tenant can create TaskSets, with any label and any owner. Only those of real Workflows are
/// served.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_set_that_a_tenant_made_is_refused() {
    let cluster = Cluster::start().await;
    let replica = cluster.replica("r1", &[]);
    cluster.submit("victim", vec![round("victim", 1, &noop())]);
    cluster.ended("victim").await;
    let victim = ("workflows".into(), "team".into(), "victim".into());
    let uid = cluster.store.get(&victim).unwrap()["metadata"]["uid"].clone();
    let labels = [
        ("plain", json!({})),
        ("labelled", json!({"wasm-workflow-executor/replica": "r1"})),
    ];
    for (name, labels) in labels {
        let owner = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": name, "uid": uid});
        let object = json!({
            "metadata": {"labels": labels, "ownerReferences": [owner]},
            "spec": {"tasks": {name: noop()}},
        });
        cluster.store.create(&task_set(name), object).unwrap();
    }
    eventually("both are refused", async || {
        let log = replica.log();
        log.matches("it does not belong to a Workflow of its name")
            .count()
            == 2
    })
    .await;
    assert_eq!(replica.steps_run(), 1);
    for name in ["plain", "labelled"] {
        assert!(cluster.store.get(&task_set(name)).unwrap()["status"].is_null());
    }
}
