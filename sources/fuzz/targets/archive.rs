//! Archives, and images with two layers, compressed or not.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|layers: (&[u8], &[u8], Option<&str>)| {
    let (lower, upper, path) = layers;
    wasm_workflow_sources::fuzzing::archive(lower);
    wasm_workflow_sources::fuzzing::image(&[lower, upper], path);
});
