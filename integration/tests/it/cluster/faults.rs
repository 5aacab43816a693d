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
    let mut slow = template("sleep");
    slow["plugin"]["wasm"]["limits"] = json!({"time": "3s"});
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
