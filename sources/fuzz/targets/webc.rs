//! Packages of the Wasmer registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    wasm_workflow_sources::fuzzing::wasmer_package(bytes, None);
    wasm_workflow_sources::fuzzing::wasmer_package(bytes, Some("a"));
});
