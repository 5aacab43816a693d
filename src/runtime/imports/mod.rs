//! Imports that the host does not offer.
//!
//! Toolchains add imports that a program never uses. So such an import does not prevent a step: the
//! host defines a function in its place, and the guest traps if it calls this function.
//!
//! A module is first linked with the linker that all modules share. Only a module with an unknown
//! import gets a linker of its own, when it is loaded. So a run is not slower.

mod abort;
mod component;
mod core;
mod report;

pub(super) use component::link_component;
pub(super) use core::link_core;
pub use report::trapping_imports;
