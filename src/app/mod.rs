//! The parts of this program, put together.

pub mod artifact_host;
pub mod credentials;
