//! Texts that people write, and how the program reads them: YAML, sizes and durations.

pub mod config_reader;
mod document_error;
pub mod tags;
pub mod units;
pub mod yaml;

pub use document_error::DocumentError;
pub(crate) use document_error::nearest;
