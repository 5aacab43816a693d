//! The reasons why bytes cannot be made into a module.

use super::inspect::NotWasm;
use super::load_error::LoadError;

/// The reason why bytes could not be made into a module.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are not WebAssembly, or are damaged.
    #[error(transparent)]
    NotWasm(#[from] NotWasm),
    /// The module is valid, and this executor cannot run it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine refuses the code of the module.
    #[error("the module cannot be compiled: {0}")]
    Compile(String),
}

impl CompileError {
    /// What the author of the module, or of the template, can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotWasm(error) => error.hint(),
            Self::Load(error) => error.hint(),
            Self::Compile(_) => "build the module again, for WASI 0.1, 0.2 or 0.3",
        }
    }
}
