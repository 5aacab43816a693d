//! What the executor reports about itself: the log and the metrics.
//!
//! | file | contents |
//! |---|---|
//! | `log` | starts the log |
//! | `queue` | the queue between the program and a slow reader of the log |
//! | `json`, `text` | the two formats of a line |
//! | `metrics` | numbers of steps and stages, for the admin port |

mod json;
mod log;
mod metrics;
mod queue;
mod text;

pub use log::{LogGuard, start, start_queued};
pub use metrics::{CONTENT_TYPE, Counted, Metrics};
