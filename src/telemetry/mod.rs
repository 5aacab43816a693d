//! What the executor reports about itself: the log.

mod log;

pub use log::start;
