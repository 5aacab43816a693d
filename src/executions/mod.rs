//! The steps that run, and for whom.

pub mod cancellation;
pub mod registry;
