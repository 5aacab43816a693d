//! Each attack alone, and sixteen times at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Mutex;
use wasm_workflow_integration::executor::Executor;
use wasm_workflow_integration::hostile::attacks::Attack;

use super::honest::{self, Honest, Record, keep_running};

/// Memory that the executor may keep ten seconds after an attack, in MiB.
const KEPT: u64 = 64;

/// Limit of the 99th percentile of the latency of honest steps, while this number of attacks run.
const fn longest(at_once: usize) -> Duration {
    match at_once {
        1 => Duration::from_millis(20),
        _ => Duration::from_millis(100),
    }
}

/// Runs the attacks one after the other, and prints a line for each. At the end, panics if an
/// attack did more harm than it may.
pub(super) async fn run(executor: &Executor, directory: &Path, attacks: &[&Attack]) {
    let neighbour = Honest::new(directory, "noop-step", Duration::from_millis(20));
    neighbour.warm_up(executor).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = executor.resident_kilobytes();
    println!("idle: {} MiB", idle >> 10);
    let mut harmful = Vec::new();
    for attack in attacks {
        for at_once in [1, 16] {
            let container = executor.container().expect("a container");
            container.reset_peak();
            let killed = container.killed();
            let (record, ends) = beside(executor, directory, &neighbour, attack, at_once);
            let peak = container.peak().unwrap_or_default() >> 20;
            tokio::time::sleep(Duration::from_secs(10)).await;
            let kept = executor.resident_kilobytes().saturating_sub(idle) >> 10;
            let killed = container.killed() - killed;
            println!(
                "{:<24} x{at_once:<2} {}  peak {peak:>5} MiB  kept {kept:>4} MiB  killed {killed}",
                attack.name,
                record.summary(),
            );
            let is_harmless = record.percentile(99) <= longest(at_once)
                && record.failures.is_empty()
                && kept <= KEPT
                && killed == 0;
            if !is_harmless {
                harmful.push(format!("{} x{at_once}", attack.name));
            }
            for (end, times) in ends {
                println!("    {times:>5} x {end}");
            }
            for failure in record.failures.iter().take(3) {
                println!("    failed: {failure}");
            }
            assert_eq!(executor.probe("/healthz").await, 200);
        }
    }
    assert!(harmful.is_empty(), "above a limit: {harmful:?}");
}

/// Repeats an attack for at least eight seconds, `at_once` at a time, with a neighbour beside it.
fn beside(
    executor: &Executor,
    directory: &Path,
    neighbour: &Honest,
    attack: &Attack,
    at_once: usize,
) -> (Record, BTreeMap<String, usize>) {
    let record = Mutex::new(Record::default());
    let ends = Mutex::new(BTreeMap::new());
    let ended = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs(8);
    let attackers = (0..at_once).map(|_| async {
        while Instant::now() < until {
            let end = attack.run(executor, directory).await;
            *ends.lock().await.entry(end).or_default() += 1;
        }
    });
    let attacking = join_all(attackers);
    let caller = executor.caller();
    let honest = keep_running(&caller, neighbour, &record, &ended);
    honest::beside(honest, attacking, &ended);
    (record.into_inner(), ends.into_inner())
}
