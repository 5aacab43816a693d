//! Docker's configuration files in both formats, and the lookup of credentials in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_workflow_sources::credentials::{DockerConfig, Keyring};

fuzz_target!(|bytes: &[u8]| {
    for parsed in [
        DockerConfig::parse(bytes),
        DockerConfig::parse_legacy(bytes),
    ]
    .into_iter()
    .flatten()
    {
        let keyring = Keyring::of(parsed, "fuzz");
        let _ = keyring.lookup("ghcr.io/acme/resize");
        let _ = keyring.lookup("library/x");
    }
});
