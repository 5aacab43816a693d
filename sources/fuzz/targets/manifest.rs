//! OCI manifests, indexes and image configurations, and the choice of a module in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| wasm_workflow_sources::fuzzing::manifest(bytes));
