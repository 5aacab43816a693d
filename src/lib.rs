//! crate
pub mod runtime;
