//! What the executor reports about itself: the log.
//!
//! | file | contents |
//! |---|---|
//! | `log` | starts the log |
//! | `queue` | the queue between the program and a slow reader of the log |
//! | `json`, `text` | the two formats of a line |

mod json;
mod log;
mod queue;
mod text;

pub use log::{LogGuard, start, start_queued};
