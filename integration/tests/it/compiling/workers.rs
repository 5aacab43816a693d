//! What a compile worker may do.

use std::fs;

use serde_json::json;
use wasm_workflow_integration::executor::Executor;
use wasm_workflow_integration::hostile::bombs;

use super::start;
use crate::template_of;

/// Ids of the compile workers of an executor.
pub(super) fn workers_of(executor: &Executor) -> Vec<u32> {
    let parent = format!("PPid:\t{}", executor.id());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| status_of(*id).lines().any(|line| line == parent))
        .collect()
}

fn status_of(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default()
}

/// A resource limit, as `proc_pid_limits(5)` shows it. Empty if the process has ended.
fn limit_of(id: u32, name: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{id}/limits")).unwrap_or_default();
    let limit = limits.lines().find_map(|line| line.strip_prefix(name));
    let soft = limit.and_then(|limit| limit.split_whitespace().next());
    soft.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_worker_has_limits_its_pipes_and_no_other_access() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "20s", "memory": "384Mi"}));
    let path = directory.path().join("loops.wasm");
    fs::write(&path, bombs::nested_loops(2000)).unwrap();
    let mut template = template_of(&path);
    template["timeout"] = json!("5s");
    let step = async { executor.node(&template).await };
    let look = async {
        // The filter of system calls is the last restriction. The worker with the estimated memory
        // ends soon, so this is the worker with the whole limit.
        let restricted = async || {
            workers_of(&executor).iter().any(|id| {
                status_of(*id).contains("Seccomp:\t2")
                    && limit_of(*id, "Max data size") == (384 << 20).to_string()
            })
        };
        wasm_workflow_integration::eventually("a restricted compile worker", restricted).await;
        let id = workers_of(&executor)[0];
        let status = status_of(id);
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let empty = format!("{set}:\t0000000000000000");
            assert!(status.contains(&empty), "{status}");
        }
        assert_eq!(limit_of(id, "Max stack size"), (8 << 20).to_string());
        assert_eq!(limit_of(id, "Max open files"), "0");
        assert_eq!(limit_of(id, "Max file size"), "0");
        assert_ne!(limit_of(id, "Max cpu time"), "unlimited");
        let files = fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
        let files: Vec<_> = files
            .map(|file| fs::read_link(file.path()).unwrap())
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(
            files.iter().all(|file| file.starts_with("pipe:")),
            "{files:?}"
        );
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap();
        assert!(environment.is_empty(), "{environment:?}");
    };
    tokio::join!(step, look);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_worker_ends_when_its_executor_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut executor = start(directory.path(), &json!({"time": "100s"}));
    let path = directory.path().join("loops.wasm");
    fs::write(&path, bombs::nested_loops(2000)).unwrap();
    let template = template_of(&path);
    let workers = {
        let step = executor.node(&template);
        let running = async || !workers_of(&executor).is_empty();
        tokio::select! {
            node = step => panic!("{node}"),
            () = wasm_workflow_integration::eventually("a compile worker", running) => {}
        }
        workers_of(&executor)
    };
    executor.kill_and_restart();
    let ended = async || {
        workers
            .iter()
            .all(|id| !fs::exists(format!("/proc/{id}/environ")).unwrap())
    };
    wasm_workflow_integration::eventually("the end of the compile worker", ended).await;
}
