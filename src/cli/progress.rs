//! Progress of a long download or compilation, on a terminal.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sources::source::Progress;

/// A line on standard error that is gone when the work is done. Nothing when standard error is no terminal.
#[derive(Clone, Debug)]
pub(super) struct Line {
    bar: ProgressBar,
}

impl Line {
    pub(super) fn new(doing: &str) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    pub(super) fn shared(&self) -> Arc<dyn Progress> {
        Arc::new(self.clone())
    }

    pub(super) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Line {
    fn downloaded(&self, done: u64, total: Option<u64>) {
        let message = match total {
            Some(total) if total > 0 => format!(
                "downloading {} of {}",
                BinaryBytes(done),
                BinaryBytes(total)
            ),
            _ => format!("downloading {}", BinaryBytes(done)),
        };
        // What follows a download is a compilation.
        self.bar.set_message(if total == Some(done) {
            "compiling".to_owned()
        } else {
            message
        });
    }
}
