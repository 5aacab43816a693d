//! Texts that people write, and how the program reads them: YAML, sizes and durations. This folder
//! also defines which characters are unprintable.

pub mod config_reader;
mod document_error;
pub mod tags;
pub mod units;
mod unprintable;
pub mod yaml;

pub use document_error::DocumentError;
pub(crate) use document_error::nearest;
pub(crate) use unprintable::{find_unprintable, is_unprintable};
