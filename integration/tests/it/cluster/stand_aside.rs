//! `serve --stand-aside`: the sidecar of the agent's pod, beside an executor of the whole cluster.

use super::*;
use wasm_workflow_integration::eventually;
use wasm_workflow_integration::executor::Options;
use wasm_workflow_integration::executor::request;

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_left_to_the_executor_of_the_cluster() {
    let sidecar = Executor::start_with(Options {
        flags: vec!["--stand-aside".to_owned()],
        ..Options::default()
    });
    eventually("readiness", async || sidecar.probe("/readyz").await == 200).await;
    let call = async |template: &Value| -> Value {
        let reply = sidecar
            .post(request(template).to_string(), &sidecar.token)
            .await;
        assert_eq!(reply.status, 200);
        serde_json::from_str(&reply.body).unwrap()
    };
    let left = json!({"node": {}, "requeue": "3600s"});
    assert_eq!(call(&noop()).await, left);
    let mistake = json!({"name": "t", "plugin": {"wasm": {"modul": "x"}}});
    assert_eq!(call(&mistake).await, left);
    let other = json!({"name": "t", "plugin": {"other": {}}});
    assert_eq!(call(&other).await, json!({}));
    let refused = sidecar.post(request(&noop()).to_string(), "wrong").await;
    assert_eq!(refused.status, 403);
    assert_eq!(sidecar.steps_run(), 0);
    assert!(
        sidecar.resident_kilobytes() < 64 << 10,
        "no executor is set up"
    );
}
