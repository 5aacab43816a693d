//! Log lines about repeated events.
//!
//! Strangers can cause an event as often as they like, but must not flood the log. So the first
//! event gets a line of its own. The events of the next ten seconds are counted, and share one
//! line.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// Time in which further events are only counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Logs one kind of event. Clones share one count.
#[derive(Clone, Debug)]
pub struct Occurrences {
    first: &'static str,
    more: &'static str,
    counted: Arc<Mutex<Option<u64>>>,
}

impl Occurrences {
    /// Makes a log. `first` is the message of the first event, and `more` is the message about the
    /// events of the next ten seconds.
    pub fn new(first: &'static str, more: &'static str) -> Self {
        Self {
            first,
            more,
            counted: Arc::default(),
        }
    }

    /// Logs or counts an event. Call this on a tokio runtime.
    pub fn log(&self) {
        if !self.begin() {
            return;
        }
        tracing::warn!(times = 1, "{}", self.first);
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(INTERVAL).await;
            let times = this.end();
            if times > 0 {
                let interval_seconds = INTERVAL.as_secs();
                tracing::warn!(times, interval_seconds, "{}", this.more);
            }
        });
    }

    /// Whether this event begins an interval. Any other event is counted.
    fn begin(&self) -> bool {
        let mut counted = self.counted.lock();
        if let Some(counted) = &mut *counted {
            *counted += 1;
            return false;
        }
        *counted = Some(0);
        true
    }

    /// Ends the interval. Returns the number of events that were counted.
    fn end(&self) -> u64 {
        self.counted.lock().take().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_gives_two_lines_in_an_interval() {
        let events = Occurrences::new("an event", "more events");
        assert!(events.begin());
        for _ in 0..1000 {
            assert!(!events.begin());
        }
        assert_eq!(events.end(), 1000);
        assert!(events.begin(), "the next event gets a line again");
        assert_eq!(events.end(), 0);
    }
}
