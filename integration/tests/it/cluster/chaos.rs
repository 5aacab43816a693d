//! Chaos: three replicas, a controller that dies, and an API server with faults.

use std::collections::BTreeMap;

use super::*;
use wasm_workflow_integration::cluster::api::Faults;
use wasm_workflow_integration::cluster::controller::Death;
use wasm_workflow_integration::eventually;

/// Number of workflows, and of their steps.
const WORKFLOWS: usize = 30;
const WIDTH: usize = 20;

/// Submits a workflow with two rounds of up to `WIDTH` steps.
fn submit_two_rounds(cluster: &Cluster, number: usize, random: &mut fastrand::Rng) {
    let name = format!("wf{number}");
    let mut round_of = |part| round(&format!("{name}{part}"), random.usize(1..WIDTH), &noop());
    let rounds = vec![round_of("a"), round_of("b")];
    cluster.submit(&name, rounds);
}

/// Without the death of a replica, no step runs twice: whatever the controller and the API server
/// do.
#[tokio::test(flavor = "multi_thread")]
async fn no_step_is_lost_and_none_runs_twice_while_the_replicas_live() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start().await;
    let replicas = ["r1", "r2", "r3"].map(|id| cluster.replica(id, &[]));
    eventually("three Leases", async || cluster.leases() == 3).await;
    cluster.api.set_faults(Faults {
        before: 0.05,
        after: 0.05,
        conflicts: 0.1,
    });
    let deaths = [
        Death::BeforeCleanup,
        Death::BetweenCleanups,
        Death::BeforeStore,
    ];
    for number in 0..WORKFLOWS {
        submit_two_rounds(&cluster, number, &mut random);
        match random.u8(..6) {
            0 => cluster.controller.die(*random.choice(&deaths).unwrap()),
            1 => cluster.store.compact(),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
    }
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..WORKFLOWS {
        let state = cluster.ended(&format!("wf{number}")).await;
        assert!(
            state.wedged.is_none() && state.changed.is_empty(),
            "{state:?}"
        );
        for (node, result) in state.ended {
            assert_eq!(result["phase"], "Succeeded", "{node}");
            runs.insert(node, 0);
        }
    }
    for replica in &replicas {
        for line in replica
            .log()
            .lines()
            .filter(|line| line.contains("pipeline: step "))
        {
            let (_, execution) = line.split_once("execution=").unwrap();
            let execution = execution.split_whitespace().next().unwrap();
            let (_, node) = execution.split_once('/').unwrap();
            *runs.entry(node.trim_matches('"').to_owned()).or_default() += 1;
        }
    }
    let wrong: Vec<_> = runs.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?} of {} steps", runs.len());
}

/// Replicas are killed and start again. Each step gets one result, and the workflow sees no other.
#[tokio::test(flavor = "multi_thread")]
async fn each_step_gets_its_result_while_replicas_are_killed() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start().await;
    let mut replicas = ["r1", "r2", "r3"].map(|id| cluster.replica(id, &[]));
    eventually("three Leases", async || cluster.leases() == 3).await;
    for number in 0..WORKFLOWS {
        submit_two_rounds(&cluster, number, &mut random);
        if number % 15 == 7 {
            let victim = random.usize(..replicas.len());
            replicas[victim].kill_and_restart();
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..100))).await;
    }
    for number in 0..WORKFLOWS {
        let state = cluster.ended(&format!("wf{number}")).await;
        assert!(
            state.wedged.is_none() && state.changed.is_empty(),
            "{state:?}"
        );
        let all_succeeded = state
            .ended
            .values()
            .all(|node| node["phase"] == "Succeeded");
        assert!(all_succeeded, "{state:?}");
    }
}
