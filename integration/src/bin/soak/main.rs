//! Attacks the executor, and runs honest steps beside the attacks.
//!
//! `integration/soak` builds everything optimised, and starts this program:
//!
//! - `soak table [NAME]` runs each attack alone, then sixteen at a time. It prints how the attack
//!   ended, the latency of honest steps beside the attack, and the memory. It fails at the end if
//!   an attack exceeded a limit.
//! - `soak MINUTES` runs random attacks for this time. It fails if an honest step fails, if the
//!   executor ends, or if the executor keeps too much memory.
//!
//! The executor runs in a control group with 2 GiB of memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an unexpected value ends the program, and its result is printed"
)]

mod honest;
mod random;
mod table;

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use wasm_workflow_integration::executor::{Executor, Options};
use wasm_workflow_integration::guests;
use wasm_workflow_integration::hostile::attacks;

/// Nice value of the worker threads of the attackers' runtime. These threads open the hostile
/// connections. In a cluster, such callers use the processors of other machines. The main thread
/// keeps its priority: it starts the executor, which inherits the nice value.
const NICE: i32 = 10;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| rustix::process::setpriority_process(None, NICE).expect("a nice value"))
        .build();
    runtime.expect("a runtime").block_on(run());
}

async fn run() {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let name = arguments.next();
    let directory = tempfile::tempdir().unwrap();
    let attacks = attacks::all();
    let executor = start(directory.path());
    if command == "table" {
        let chosen = attacks
            .iter()
            .filter(|attack| name.as_ref().is_none_or(|name| attack.name == name));
        let chosen: Vec<_> = chosen.collect();
        table::run(&executor, directory.path(), &chosen).await;
    } else {
        let minutes = command.parse().expect("`table`, or a number of minutes");
        let time = Duration::from_mins(minutes);
        random::run(&executor, directory.path(), &attacks, time).await;
    }
}

fn start(directory: &Path) -> Executor {
    for guest in ["noop-step", "noop-work"] {
        std::fs::copy(
            guests::guest(guest),
            directory.join(format!("{guest}.wasm")),
        )
        .unwrap();
    }
    let executor = Executor::start_with(Options {
        config: Some(
            json!({"sources": {"fileRoot": directory}, "agent": {"patchRate": "1ms"}}).to_string(),
        ),
        flags: vec![
            "--log-level".into(),
            "warn,wasm_workflow_executor::app=info".into(),
        ],
        ..Options::in_container()
    });
    assert!(
        executor.container().is_some(),
        "cannot create a control group with a memory limit: run this program as root"
    );
    executor
}
