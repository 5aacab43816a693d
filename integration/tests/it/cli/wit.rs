//! The command `wit`.

use wasm_workflow_integration::guests::repository;

use super::{Cli, stderr, stdout};

#[test]
fn wit_prints_the_step_world() {
    let output = Cli::new().run(&["wit"]);
    let file = std::fs::read_to_string(repository().join("wit/step.wit")).unwrap();
    assert_eq!(stdout(&output), file);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}
