//! References: whatever parses is written as a text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_workflow_sources::Reference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let canonical = reference.to_string();
        assert_eq!(
            canonical.parse::<Reference>().ok(),
            Some(reference.clone()),
            "{canonical}"
        );
        let _ = (
            reference.policy_subject(),
            reference.redacted(),
            reference.pinned(),
        );
    }
});
