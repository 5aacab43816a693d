//! References: the canonical form of a reference parses to an equal reference.
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
        let _ = reference.policy_subject();
        let _ = reference.redacted();
        let _ = reference.pinned();
    }
});
