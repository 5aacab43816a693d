//! Texts that people write, and how they are read: YAML, sizes and times.

pub mod config_reader;
pub mod units;
pub mod yaml;
