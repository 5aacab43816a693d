//! The reasons why a module cannot be run by this executor.

use super::origin::Origin;

/// Longest part of a module's name that a message shows, in characters.
const SHOWN_CHARS: usize = 100;
/// Number of exports that a message lists.
const SHOWN_EXPORTS: usize = 8;

/// The error for a module that cannot be run by this executor.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The module imports an item that the host does not offer, and that is not a function.
    #[error("the module imports {import}, which this executor does not offer")]
    Import {
        /// Kind and name of the import.
        import: String,
        /// How to build the module instead.
        hint: &'static str,
    },
    /// The module has no function to call.
    #[error("the module has no entry point: {reason}")]
    NoEntry {
        /// The kind of the module, and its exports.
        reason: String,
        /// How to build the module instead.
        hint: &'static str,
    },
    /// The module needs something of the engine that the executor does not have.
    #[error("the module uses {feature}, which this executor does not have")]
    Feature {
        /// The name of a WebAssembly proposal.
        feature: &'static str,
        /// How to build the module instead.
        hint: &'static str,
    },
    /// The engine refuses the module.
    #[error("the module cannot be loaded: {0}")]
    Engine(String),
}

impl LoadError {
    /// What the author of the module can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Import { hint, .. } | Self::NoEntry { hint, .. } | Self::Feature { hint, .. } => {
                hint
            }
            Self::Engine(_) => "build the module again, for WASI 0.1, 0.2 or 0.3",
        }
    }

    /// The error for a module with threads.
    pub(super) fn threads() -> Self {
        Self::Feature {
            feature: "shared memory for threads",
            hint: Origin::Threads.advice(),
        }
    }
}

/// Lists names for a message: at most eight, each cut to 100 characters.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names
        .take(SHOWN_EXPORTS + 1)
        .map(|name| format!("`{}`", clipped(name)))
        .collect();
    if names.len() > SHOWN_EXPORTS {
        names.truncate(SHOWN_EXPORTS);
        names.push("…".to_owned());
    }
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(", ")
}

/// The beginning of a name from a module. Modules are untrusted, and their names can be long.
pub(super) fn clipped(name: &str) -> String {
    clipped_to(name, SHOWN_CHARS)
}

/// The first characters of a text, at most `characters`.
pub(super) fn clipped_to(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
