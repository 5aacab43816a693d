//! Many slow modules of one template delay no module of another template.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::hostile::bombs;

use super::workers::workers_of;
use super::{fresh, start};
use crate::{message, template_of};

/// Number of modules of one template. With at most eight cores, the executor has fewer workers for
/// one template.
const MODULES: usize = 16;
/// The time limit of the compiler is much longer, so a busy machine does not fail the test.
const QUICK: Duration = Duration::from_secs(20);

/// Templates with one name, and different modules that compile for minutes.
fn slow_modules(directory: &std::path::Path) -> Vec<Value> {
    let slow = (0..MODULES).map(|number| {
        let path = directory.join(format!("slow-{number}.wasm"));
        std::fs::write(&path, bombs::nested_loops(2000 + number)).unwrap();
        let mut template = template_of(&path);
        template["name"] = json!("slow");
        template["timeout"] = json!("60s");
        template
    });
    slow.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_modules_of_one_template_do_not_delay_the_module_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let limits = json!({"time": "10m", "memory": "384Mi"});
    let executor = start(directory.path(), &limits);
    let slow = slow_modules(directory.path());
    let hostile = join_all(slow.iter().map(|template| executor.node(template)));
    let honest = async {
        // One worker is reserved for other templates.
        let busy = async || workers_of(&executor).len() >= 3;
        eventually("workers of the slow modules", busy).await;
        let resident = executor.resident_kilobytes();
        for number in 0..3 {
            let mut template = fresh(directory.path(), number);
            template["name"] = json!("quick");
            let began = Instant::now();
            let node = executor.node(&template).await;
            assert_eq!(node["phase"], "Succeeded", "{node}");
            let took = began.elapsed();
            assert!(took < QUICK, "{took:?}");
        }
        let grown = executor.resident_kilobytes().saturating_sub(resident);
        assert!(grown < 32 << 10, "{grown} KiB more");
    };
    tokio::select! {
        nodes = hostile => panic!("the slow modules have ended: {nodes:?}"),
        () = honest => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_does_not_fail_with_the_compile_limits_of_another_step() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({}));
    for (number, time) in ["100ms", "150ms"].into_iter().enumerate() {
        let path = directory.path().join(format!("loops-{number}.wasm"));
        std::fs::write(&path, bombs::nested_loops(150 + number)).unwrap();
        let mut low = template_of(&path);
        low["plugin"]["wasm"]["limits"] = json!({"compile": {"time": time}});
        let high = template_of(&path);
        let (low, high) = tokio::join!(executor.node(&low), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            executor.node(&high).await
        });
        assert!(message(&low).contains(&format!("within {time}")), "{low}");
        assert_eq!(high["phase"], "Succeeded", "{high}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_shares_a_longer_compilation_fails_at_its_own_limit() {
    let directory = tempfile::tempdir().unwrap();
    let executor = start(directory.path(), &json!({"time": "10m", "memory": "384Mi"}));
    let path = directory.path().join("loops.wasm");
    std::fs::write(&path, bombs::nested_loops(2000)).unwrap();
    let mut high = template_of(&path);
    high["timeout"] = json!("60s");
    let mut low = template_of(&path);
    low["plugin"]["wasm"]["limits"] = json!({"compile": {"time": "1s"}});
    let low = async {
        let running = async || !workers_of(&executor).is_empty();
        eventually("a compile worker", running).await;
        let node = executor.node(&low).await;
        assert!(message(&node).contains("within 1s"), "{node}");
        assert_eq!(
            workers_of(&executor).len(),
            1,
            "both steps share the worker"
        );
    };
    tokio::select! {
        node = executor.node(&high) => panic!("the slow module has ended: {node}"),
        () = low => {}
    }
}
