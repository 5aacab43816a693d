//! Invoices of Bindle, and the choice of a parcel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_workflow_sources::bindle::Invoice;

fuzz_target!(|text: &str| {
    if let Ok(invoice) = toml::from_str::<Invoice>(text) {
        let chosen = invoice.module(None).map(|label| label.name.clone());
        if let Ok(name) = chosen {
            let _ = invoice.module(Some(&name));
        }
        let json = serde_json::to_string(&invoice).expect("an invoice can be serialised");
        assert_eq!(serde_json::from_str::<Invoice>(&json).ok(), Some(invoice));
    }
});
