//! The memory of executions: of requests that wait or run, and of results that wait for delivery.
//!
//! If there is no room for a call, the call gets a `requeue`. Two rules keep the room usable:
//!
//! - If a template of a workflow uses more than an eighth of the room, it leaves an eighth to
//!   others.
//! - If too many results of a template wait, no further step of this template starts to run.
//!   Running steps continue. The limit depends on the results of all templates together:
//!
//! | the results of all templates use | no further step starts |
//! |---|---|
//! | less than half of the room | of a template whose results use a quarter of the room |
//! | at least half | of a template whose results use an eighth of the room |
//! | at least three quarters | of any template |

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::pipeline::{FullResults, TemplateKey};

/// One template leaves one part in `SHARE` of the room to other templates.
const SHARE: usize = 8;
/// Memory of an execution, without its request, in bytes. Measured: 37 KiB.
const EXECUTION: usize = 40 << 10;
/// Memory of an execution that has ended, without its result, in bytes.
const ENDED: usize = 2 << 10;
/// Memory of one value of a JSON document, beyond its text, in bytes.
const JSON_VALUE: usize = 64;

/// The memory of an execution with this request, in bytes: an upper estimate. The request is in
/// memory as a template and as a step, and each has the text of the values.
pub fn memory_of_request(body: &[u8]) -> usize {
    let begins_value = |byte: &&u8| matches!(byte, b',' | b':' | b'[' | b'{');
    let values = body.iter().filter(begins_value).count();
    EXECUTION + 3 * body.len() + JSON_VALUE * values
}

/// The memory of all executions. Clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    limit: usize,
    used: Arc<Mutex<Used>>,
    results_full: Arc<watch::Sender<FullResults>>,
}

#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    /// The part of `bytes` that results use.
    results: usize,
    of_template: HashMap<TemplateKey, OfTemplate>,
}

/// The memory of one template, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct OfTemplate {
    bytes: usize,
    /// The part of `bytes` that results use.
    results: usize,
}

/// The memory of one execution. Dropping the value makes room.
#[derive(Debug)]
pub struct Usage {
    room: Room,
    template: TemplateKey,
    part: Mutex<Part>,
}

/// The part of one execution, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    request: usize,
    result: usize,
}

impl Room {
    /// Makes room for `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: Arc::default(),
            results_full: Arc::default(),
        }
    }

    /// The most that one execution can use, in bytes.
    pub fn largest(&self) -> usize {
        self.limit - self.limit / SHARE
    }

    /// Takes `bytes` for an execution. `None` if there is no room.
    pub fn take(&self, template: TemplateKey, bytes: usize) -> Option<Usage> {
        let mut used = self.used.lock();
        let of_template = used.of_template.get(&template).copied().unwrap_or_default();
        let limit = match of_template.bytes + bytes > self.limit / SHARE {
            true => self.largest(),
            false => self.limit,
        };
        if used.bytes + bytes > limit {
            return None;
        }
        used.bytes += bytes;
        used.of_template.entry(template).or_default().bytes += bytes;
        drop(used);
        let part = Part {
            request: bytes,
            result: 0,
        };
        Some(Usage {
            room: self.clone(),
            template,
            part: Mutex::new(part),
        })
    }

    /// The templates whose steps may not start to run, because too many results wait for delivery.
    pub fn results_full(&self) -> watch::Receiver<FullResults> {
        self.results_full.subscribe()
    }

    /// Replaces the part of an execution.
    fn replace(&self, template: TemplateKey, before: Part, after: Part) {
        let mut used = self.used.lock();
        used.bytes = used.bytes - before.request - before.result + after.request + after.result;
        used.results = used.results - before.result + after.result;
        if let Some(own) = used.of_template.get_mut(&template) {
            own.bytes = own.bytes - before.request - before.result + after.request + after.result;
            own.results = own.results - before.result + after.result;
            if own.bytes == 0 {
                used.of_template.remove(&template);
            }
        }
        let full = self.full(&used);
        self.results_full.send_if_modified(|sent| {
            let changed = *sent != full;
            *sent = full;
            changed
        });
    }

    fn full(&self, used: &Used) -> FullResults {
        let share = match used.results >= self.limit / 2 {
            true => self.limit / SHARE,
            false => self.limit / 4,
        };
        if used.results < share {
            return FullResults::default();
        }
        let of_template = used.of_template.iter();
        FullResults {
            all: used.results >= self.limit / 4 * 3,
            templates: of_template
                .filter(|(_, own)| own.results >= share)
                .map(|(template, _)| *template)
                .collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.used.lock().bytes
    }
}

impl Usage {
    /// Replaces the memory of the request by the memory of the result: the execution has ended.
    pub fn end(&self, result: usize) {
        let after = Part {
            request: ENDED,
            result,
        };
        let before = std::mem::replace(&mut *self.part.lock(), after);
        self.room.replace(self.template, before, after);
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        let before = *self.part.get_mut();
        self.room.replace(self.template, before, Part::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_template_leaves_an_eighth_of_the_room_to_others() {
        let room = Room::new(800);
        let one = TemplateKey::of("w", "one");
        let other = TemplateKey::of("w", "other");
        let taken: Vec<_> = std::iter::from_fn(|| room.take(one, 10)).collect();
        assert_eq!(taken.len(), 70);
        let others: Vec<_> = std::iter::from_fn(|| room.take(other, 10)).collect();
        assert_eq!(others.len(), 10);
        drop(taken);
        drop(others);
        assert_eq!(room.bytes(), 0);
        assert!(room.used.lock().of_template.is_empty());
    }

    #[test]
    fn a_template_whose_results_wait_does_not_stop_other_templates() {
        let room = Room::new(80_000);
        let full = room.results_full();
        let key = |name| TemplateKey::of("w", name);
        let end = |name, result| {
            let usage = room.take(key(name), 10).unwrap();
            usage.end(result);
            usage
        };
        let first = end("one", 19_999);
        assert!(!full.borrow().stops(key("one")));
        let second = end("one", 1);
        assert!(full.borrow().stops(key("one")), "a quarter of the room");
        assert!(!full.borrow().stops(key("other")));

        let other = end("other", 10_000);
        assert!(!full.borrow().stops(key("other")));
        let third = end("third", 10_000);
        assert!(full.borrow().stops(key("other")), "an eighth, of half");
        assert!(!full.borrow().stops(key("new")));

        let small = end("small", 20_000);
        assert!(full.borrow().stops(key("new")), "three quarters in all");
        drop((first, second, other, third, small));
        assert_eq!(*full.borrow(), FullResults::default());
    }

    /// Argo's object holds 1.5 MB, with all tasks of a workflow.
    #[test]
    fn the_tasks_of_one_workflow_fit() {
        let room = Room::new(32 << 20);
        let value = "x".repeat(1_500_000);
        assert!(memory_of_request(value.as_bytes()) <= room.largest());
    }
}
