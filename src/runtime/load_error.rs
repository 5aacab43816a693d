//! The reasons why compiled code cannot be run by this executor.

/// Longest part of a module's name that a message shows, in characters.
const SHOWN_CHARS: usize = 100;
/// Number of exports that a message lists.
const SHOWN_EXPORTS: usize = 8;

/// The error for compiled code that cannot be run by this executor.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The module imports an item that the host does not offer.
    #[error("the module imports {0}, which this executor does not offer")]
    Import(String),
    /// The module has no function to call.
    #[error("the module has no entry point: it exports {0}")]
    NoEntry(String),
    /// The engine refuses the module.
    #[error("the module cannot be loaded: {0}")]
    Engine(String),
}

impl LoadError {
    /// The error for a module that exports only `names`.
    pub(super) fn no_entry(names: impl Iterator<Item = String>) -> Self {
        let names: Vec<String> = names
            .take(SHOWN_EXPORTS)
            .map(|name| format!("`{}`", clipped(&name)))
            .collect();
        Self::NoEntry(if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        })
    }
}

/// The beginning of a name from a module. Modules are untrusted, and their names can be long.
pub(super) fn clipped(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}
