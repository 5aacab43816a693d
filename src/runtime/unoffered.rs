//! The error of a guest that called an import which the host does not offer.

use super::load_error::clipped;
use super::origin::Origin;

/// A call of a function that this executor does not offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the module called {function}, which this executor does not offer")]
pub struct UnofferedCall {
    function: String,
    hint: &'static str,
}

impl UnofferedCall {
    /// A call of an import of a core module.
    pub(super) fn of_core(module: &str, name: &str) -> Self {
        Self {
            function: format!("`{}` from `{}`", clipped(name), clipped(module)),
            hint: Origin::of_core(module, name).advice(),
        }
    }

    /// A call of a function in an interface that a component imports.
    pub(super) fn of_interface(interface: &str, function: &str) -> Self {
        Self {
            function: format!("`{}` of `{}`", clipped(function), clipped(interface)),
            hint: Origin::of_interface(interface).advice(),
        }
    }

    /// A call of a function that a component imports without an interface.
    pub(super) fn of_function(name: &str) -> Self {
        Self {
            function: format!("`{}`", clipped(name)),
            hint: Origin::Unknown.advice(),
        }
    }

    /// What the author of the module, or of the template, can do.
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}
