//! Chaos: three replicas, a controller that dies, and an API server with faults.

use std::collections::{BTreeMap, HashSet};

use super::*;
use wasm_workflow_integration::cluster::api::{ApiServer, Faults};
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
        for execution in executions(replica) {
            let (_, node) = execution.split_once('/').unwrap();
            *runs.entry(node.to_owned()).or_default() += 1;
        }
    }
    let wrong: Vec<_> = runs.iter().filter(|(_, runs)| **runs != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?} of {} steps", runs.len());
}

/// The ids of the executions that have ended in a replica: the uid of the task set and the node.
fn executions(replica: &Executor) -> Vec<String> {
    let log = replica.log();
    let ends = log.lines().filter(|line| line.contains("pipeline: step "));
    let ids = ends.map(|line| {
        let (_, execution) = line.split_once("execution=").unwrap();
        let id = execution.split_whitespace().next().unwrap();
        id.trim_matches('"').to_owned()
    });
    ids.collect()
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

/// How long a replica is frozen or cut off: longer than the duration of its Lease.
const OUTAGE: Duration = Duration::from_secs(40);
/// Number of workflows in the long run, one every 150 ms.
const MANY: usize = 800;

/// A replica is frozen, and later another one is cut off from the API. Meanwhile, workflows are
/// deleted and created again under the same name. A step runs twice only if a replica that was
/// frozen or cut off ran it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes three minutes: `integration/load` runs it"]
async fn steps_of_a_replica_that_is_frozen_or_cut_off_run_elsewhere() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start().await;
    let settings = json!({"leaseDuration": "30s"});
    let (mut frozen, _api) = cluster.replica_with_api("frozen", &settings).await;
    let (mut cut, api) = cluster.replica_with_api("cut", &settings).await;
    let (healthy, _other_api) = cluster.replica_with_api("healthy", &settings).await;
    eventually("three Leases", async || cluster.leases() == 3).await;
    let begun = Instant::now();
    let mut outages = Outages::default();
    for number in 0..MANY {
        submit_two_rounds(&cluster, number, &mut random);
        if random.u8(..20) == 0 {
            let name = format!("wf{}", random.usize(..=number));
            cluster.controller.delete(&name);
            submit_two_rounds(&cluster, name[2..].parse().unwrap(), &mut random);
        }
        outages.advance(begun.elapsed(), &mut frozen, &mut cut, &api);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    while !outages.have_ended() {
        outages.advance(begun.elapsed(), &mut frozen, &mut cut, &api);
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut steps = 0;
    for number in 0..MANY {
        let state = cluster.ended(&format!("wf{number}")).await;
        assert!(
            state.wedged.is_none() && state.changed.is_empty(),
            "{state:?}"
        );
        let succeeded = |node: &Value| node["phase"] == "Succeeded";
        assert!(state.ended.values().all(succeeded), "{state:?}");
        steps += state.ended.len();
    }
    let mut by_healthy: BTreeMap<String, usize> = BTreeMap::new();
    for execution in executions(&healthy) {
        *by_healthy.entry(execution).or_default() += 1;
    }
    by_healthy.retain(|_, runs| *runs > 1);
    assert!(by_healthy.is_empty(), "{by_healthy:?}");
    let [one, other] = [&frozen, &cut].map(executions);
    let twice = one.iter().chain(&other).collect::<HashSet<_>>();
    let again = executions(&healthy)
        .iter()
        .filter(|execution| twice.contains(execution))
        .count();
    println!("{steps} steps, {again} of them again after an outage");
}

/// The outages of two replicas, one after the other.
#[derive(Debug, Default)]
struct Outages {
    done: usize,
}

impl Outages {
    /// The times of the four events, since the start.
    const TIMES: [Duration; 4] = [
        Duration::from_secs(10),
        Duration::from_secs(10 + OUTAGE.as_secs()),
        Duration::from_secs(70),
        Duration::from_secs(70 + OUTAGE.as_secs()),
    ];

    fn have_ended(&self) -> bool {
        self.done == Self::TIMES.len()
    }

    fn advance(
        &mut self,
        now: Duration,
        frozen: &mut Executor,
        cut: &mut Executor,
        api: &ApiServer,
    ) {
        if Self::TIMES.get(self.done).is_none_or(|time| now < *time) {
            return;
        }
        match self.done {
            0 => signal(frozen, "-STOP"),
            1 => {
                signal(frozen, "-CONT");
                let code = tokio::task::block_in_place(|| frozen.wait());
                assert_eq!(code, Some(2), "the replica has lost its Lease");
                frozen.restart();
            }
            2 => api.cut(true),
            _ => {
                let code = tokio::task::block_in_place(|| cut.wait());
                assert_eq!(code, Some(2), "the replica cannot renew its Lease");
                api.cut(false);
                cut.restart();
            }
        }
        self.done += 1;
    }
}
