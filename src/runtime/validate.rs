//! Validates the code of a binary, and names the proposal that the engine does not have.

use wasmparser::{BinaryReaderError, Validator, WasmFeatures};

use super::compile_error::ModuleError;
use super::features::{SUPPORTED, UNSUPPORTED};
use super::inspect::NotWasm;
use super::load_error::LoadError;

/// Checks that a binary is valid for the engine.
///
/// Reads the whole code. For a large module, this takes up to a second for each proposal.
pub fn validate(bytes: &[u8]) -> Result<(), ModuleError> {
    let Err(invalid) = validate_with(bytes, SUPPORTED) else {
        return Ok(());
    };
    let mut proposals = UNSUPPORTED.iter();
    let missing =
        proposals.find(|proposal| validate_with(bytes, SUPPORTED | proposal.feature).is_ok());
    Err(match missing {
        Some(proposal) => ModuleError::Load(LoadError::Feature {
            feature: proposal.name,
            hint: proposal.hint,
        }),
        None => ModuleError::NotWasm(NotWasm::Invalid(invalid.to_string())),
    })
}

fn validate_with(bytes: &[u8], features: WasmFeatures) -> Result<(), BinaryReaderError> {
    let mut validator = Validator::new_with_features(features);
    validator.validate_all(bytes).map(drop)
}
