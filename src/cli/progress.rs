//! The progress of a download or a compilation, on a terminal.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sources::source::Progress;

/// Time between two frames of the animation.
const TICK: Duration = Duration::from_millis(100);

/// A line on standard error that shows the current work, until it is cleared. The line is not shown
/// if standard error is not a terminal.
#[derive(Clone, Debug)]
pub(super) struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    /// Shows the line with a message.
    pub(super) fn new(message: &str) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(TICK);
        Self { bar }
    }

    /// The same line as a receiver of progress.
    pub(super) fn shared(&self) -> Arc<dyn Progress> {
        Arc::new(self.clone())
    }

    /// Removes the line from the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Spinner {
    fn downloaded(&self, done: u64, total: Option<u64>) {
        let message = match total {
            // The module is compiled next.
            Some(total) if total == done => "compiling".to_owned(),
            Some(total) if total > 0 => format!(
                "downloading {} of {}",
                BinaryBytes(done),
                BinaryBytes(total)
            ),
            _ => format!("downloading {}", BinaryBytes(done)),
        };
        self.bar.set_message(message);
    }
}
