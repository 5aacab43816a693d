//! Several replicas: claims, failover, and the drain.

use super::*;
use wasm_workflow_integration::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn the_replicas_share_the_workflows() {
    let cluster = Cluster::start().await;
    let replicas = ["r1", "r2", "r3"].map(|id| cluster.replica(id, &[]));
    eventually("three Leases", async || cluster.leases() == 3).await;
    for number in 0..30 {
        let name = format!("wf{number}");
        cluster.submit(&name, vec![round(&name, 3, &noop())]);
    }
    for number in 0..30 {
        let state = cluster.ended(&format!("wf{number}")).await;
        assert_eq!(state.ended.len(), 3);
    }
    let steps = replicas.each_ref().map(Executor::steps_run);
    assert_eq!(
        steps.iter().sum::<usize>(),
        90,
        "none runs twice: {steps:?}"
    );
    assert!(steps.iter().all(|steps| *steps > 0), "{steps:?}");
}

/// The Lease of the dead replica is deleted, as Kubernetes deletes it with the pod.
#[tokio::test(flavor = "multi_thread")]
async fn the_workflows_of_a_dead_replica_are_taken_over() {
    let cluster = Cluster::start().await;
    let first = cluster.replica("r1", &[]);
    let mut tasks = round("fast", 2, &noop());
    let slow = ends_after("4s");
    tasks.extend(round("slow", 1, &slow));
    cluster.submit("wf", vec![tasks]);
    eventually("the fast steps end", async || {
        cluster.controller.state("wf").ended.len() == 2
    })
    .await;
    let second = cluster.replica("r2", &[]);
    eventually("two Leases", async || cluster.leases() == 2).await;
    drop(first);
    cluster.delete_lease("r1");
    let state = cluster.ended("wf").await;
    assert_eq!(cluster.owner("wf").as_deref(), Some("r2"));
    assert_eq!(state.ended.len(), 3);
    assert_eq!(second.steps_run(), 1, "only the step without a result");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_gives_its_workflows_back() {
    let cluster = Cluster::start().await;
    let mut first = cluster.replica("r1", &[]);
    let slow = ends_after("3s");
    cluster.submit(
        "wf",
        vec![round("slow", 1, &slow), round("next", 5, &noop())],
    );
    eventually("the claim", async || cluster.owner("wf").is_some()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = cluster.replica("r2", &[]);
    eventually("two Leases", async || cluster.leases() == 2).await;
    let exit = tokio::task::spawn_blocking(move || {
        let exit = first.terminate();
        (exit, first)
    });
    let state = cluster.ended("wf").await;
    let (exit, first) = exit.await.unwrap();
    assert_eq!(exit.code, Some(0), "{}", first.log());
    assert_eq!(state.ended.len(), 6);
    assert_eq!(first.steps_run(), 1, "the running step ended");
    assert_eq!(
        second.steps_run(),
        5,
        "the other replica runs the next round"
    );
    assert_eq!(cluster.leases(), 1, "the Lease is deleted");
}

/// The controller does not remove results, as that of Argo's own manifests, which may not.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_does_not_wait_for_a_controller_that_removes_nothing() {
    let cluster = Cluster::start().await;
    let mut first = cluster.replica("r1", &[]);
    cluster.submit("wf", vec![round("wf", 3, &ends_after("1s"))]);
    eventually("the claim", async || cluster.owner("wf").is_some()).await;
    cluster.controller.pause();
    eventually("the results", async || {
        let set = cluster.store.get(&task_set("wf"));
        let nodes = set.map(|set| set["status"]["nodes"].as_object().map(serde_json::Map::len));
        nodes.flatten() == Some(3)
    })
    .await;
    let exit = tokio::task::spawn_blocking(move || (first.terminate(), first.log()));
    let (exit, log) = exit.await.unwrap();
    assert_eq!(exit.code, Some(0), "{log}");
    assert!(exit.took < Duration::from_secs(10), "{:?}", exit.took);
    assert_eq!(
        cluster.owner("wf").as_deref(),
        Some("r1"),
        "taken over later"
    );
    let second = cluster.replica("r2", &[]);
    cluster.controller.resume();
    let state = cluster.ended("wf").await;
    assert_eq!(state.ended.len(), 3);
    assert_eq!(second.steps_run(), 0, "all had results");
}

/// Without the API server, the replica cannot renew its Lease, and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_renew_its_lease_ends() {
    let cluster = Cluster::start().await;
    let mut replica = cluster.replica_with("r1", &json!({"leaseDuration": "30s"}));
    cluster.submit("wf", vec![round("spin", 1, &template("spin"))]);
    eventually("the claim", async || cluster.owner("wf").is_some()).await;
    cluster
        .api
        .set_faults(wasm_workflow_integration::cluster::api::Faults {
            before: 1.0,
            ..Default::default()
        });
    let code = tokio::task::spawn_blocking(move || {
        let code = replica.wait();
        (code, replica.log())
    });
    let ended = tokio::time::timeout(Duration::from_secs(35), code).await;
    let (code, log) = ended.expect("the replica ends").unwrap();
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.contains("the Lease of this replica could not be renewed"),
        "{log}"
    );
}

/// The Lease of the frozen replica is not renewed. When the replica continues, it must not write.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_is_replaced_and_writes_nothing_when_it_continues() {
    let cluster = Cluster::start().await;
    let settings = json!({"leaseDuration": "30s"});
    let mut first = cluster.replica_with("r1", &settings);
    let step = ends_after("3s");
    cluster.submit("wf", vec![round("slow", 2, &step)]);
    eventually("the claim", async || cluster.owner("wf").is_some()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = cluster.replica_with("r2", &settings);
    eventually("two Leases", async || cluster.leases() == 2).await;
    signal(&first, "-STOP");
    let state = cluster.ended("wf").await;
    assert_eq!(cluster.owner("wf").as_deref(), Some("r2"));
    assert_eq!(second.steps_run(), 2, "{state:?}");
    let written = cluster.api.requests()["PATCH workflowtasksets/status"];
    signal(&first, "-CONT");
    let code = tokio::task::spawn_blocking(move || (first.wait(), first.log()));
    let (code, log) = tokio::time::timeout(Duration::from_secs(20), code)
        .await
        .expect("the replica ends")
        .unwrap();
    assert_eq!(code, Some(2), "{log}");
    let state = cluster.controller.state("wf");
    assert!(
        state.wedged.is_none() && state.changed.is_empty(),
        "{state:?}"
    );
    let after = cluster.api.requests()["PATCH workflowtasksets/status"];
    assert_eq!(after, written, "{log}");
}

/// Kubernetes would delete a Lease that belongs to a pod with another uid.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_the_uid_of_another_pod_claims_nothing() {
    let cluster = Cluster::start().await;
    let key = ("pods".into(), "executors".into(), "executor-1".into());
    cluster.store.create(&key, json!({})).unwrap();
    let uid = cluster.store.get(&key).unwrap()["metadata"]["uid"].clone();
    let uid = uid.as_str().unwrap();
    let wrong = cluster.replica("r1", &["--pod", "executor-1"]);
    let expected =
        format!("the pod `executor-1` has the uid `{uid}`, and this replica has the id `r1`");
    eventually("the error", async || wrong.log().contains(&expected)).await;
    cluster.submit("wf", vec![round("wf", 1, &noop())]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.owner("wf"), None);
    let _right = cluster.replica(uid, &["--pod", "executor-1"]);
    cluster.ended("wf").await;
    assert_eq!(cluster.owner("wf").as_deref(), Some(uid));
}
