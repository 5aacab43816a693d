//! The allocator of the executor.

use std::process::Command;

use wasm_workflow_integration::executor::program;

#[test]
fn jemalloc_has_the_settings_of_the_program() {
    // At its end, the process prints the settings that are in force.
    let output = Command::new(program())
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    for setting in [
        "opt.retain: false",
        "opt.dirty_decay_ms: 2000",
        "opt.tcache_max: 8192",
    ] {
        assert!(printed.contains(setting), "{setting}: {printed}");
    }
}
