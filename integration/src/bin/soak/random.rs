//! Random attacks beside honest steps, for a long time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::Mutex;
use wasm_workflow_integration::executor::Executor;
use wasm_workflow_integration::hostile::attacks::Attack;

use super::honest::{self, Honest, Record, keep_compiling, keep_running};

/// Memory that the executor may keep after the attacks, in KiB.
const KEPT: u64 = 64 << 10;
/// Attacks at the same time.
const ATTACKERS: usize = 4;

/// One run of random attacks.
#[derive(Debug)]
struct Soak<'a> {
    executor: &'a Executor,
    directory: &'a Path,
    attacks: &'a [Attack],
    until: Instant,
    run: AtomicUsize,
}

impl Soak<'_> {
    /// Runs one random attack after the other.
    async fn attack(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while Instant::now() < self.until {
            let attack = &self.attacks[random.usize(..self.attacks.len())];
            attack.run(self.executor, self.directory).await;
            self.run.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn attack_all(&self, seed: u64) {
        let attackers = (0..ATTACKERS).map(|number| self.attack(seed + number as u64));
        tokio::select! {
            _ = join_all(attackers) => {}
            () = self.report() => {}
        }
    }

    /// Prints a line each minute. Never ends.
    async fn report(&self) {
        loop {
            tokio::time::sleep(Duration::from_mins(1)).await;
            let run = self.run.load(Ordering::Relaxed);
            let resident = self.executor.resident_kilobytes() >> 10;
            println!("{run} attacks, resident {resident} MiB");
        }
    }
}

/// Runs random attacks for this time. Panics if an honest step fails, or if the executor keeps too
/// much memory.
pub(super) async fn run(executor: &Executor, directory: &Path, attacks: &[Attack], time: Duration) {
    let warm = Honest::new(directory, "noop-step", Duration::from_millis(20));
    let with_files = Honest::new(directory, "noop-work", Duration::from_millis(100));
    warm.warm_up(executor).await;
    with_files.warm_up(executor).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = executor.resident_kilobytes();
    let seed = fastrand::u64(..1 << 32);
    println!("seed {seed}, idle {} MiB", idle >> 10);
    let soak = Soak {
        executor,
        directory,
        attacks,
        until: Instant::now() + time,
        run: AtomicUsize::new(0),
    };
    let ended = AtomicBool::new(false);
    let records: [Mutex<Record>; 3] = Default::default();
    let caller = executor.caller();
    let honest = async {
        tokio::join!(
            keep_running(&caller, &warm, &records[0], &ended),
            keep_running(&caller, &with_files, &records[1], &ended),
            keep_compiling(&caller, directory, &records[2], &ended),
        );
    };
    honest::beside(honest, soak.attack_all(seed), &ended);
    let names = [warm.name, with_files.name, "new modules"];
    tokio::time::sleep(Duration::from_secs(10)).await;
    let kept = executor.resident_kilobytes().saturating_sub(idle);
    let killed = executor.container().expect("a container").killed();
    let run = soak.run.into_inner();
    println!(
        "{run} attacks in {} min; kept {} MiB; the kernel killed {killed} processes of the container",
        time.as_secs() / 60,
        kept >> 10,
    );
    let mut failures = 0;
    for (name, record) in names.iter().zip(records) {
        let record = record.into_inner();
        println!("{name:<12} {}", record.summary());
        for failure in record.failures.iter().take(5) {
            println!("    {failure}");
        }
        assert_ne!(record.steps(), 0, "no honest step has run");
        failures += record.failures.len();
    }
    assert_ne!(run, 0, "no attack has run");
    assert_eq!(failures, 0, "honest steps failed");
    assert_eq!(killed, 0, "the container had too little memory");
    assert!(kept <= KEPT, "the executor keeps {} MiB", kept >> 10);
    assert_eq!(executor.probe("/healthz").await, 200);
}
