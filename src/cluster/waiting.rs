//! Tasks that wait for memory.
//!
//! A task needs memory of the [`Room`](crate::executions::Room) before it starts. The tasks of one
//! namespace start in order of arrival. The namespaces take turns.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use super::ids::TaskKey;
use crate::pipeline::TemplateKey;
use crate::step::Workflow;

/// Most bytes of waiting templates with which a replica claims further TaskSets.
const MAX_BYTES: usize = 64 << 20;

/// A task that has not started. Its template is a text, which needs less memory than a parsed
/// template.
#[derive(Clone, Debug)]
pub(super) struct WaitingTask {
    pub(super) task: TaskKey,
    pub(super) workflow: Workflow,
    /// When the task could have started.
    pub(super) since: Instant,
    /// The key of the template in the room.
    pub(super) key: TemplateKey,
    /// The memory that the task needs, in bytes.
    pub(super) memory: usize,
    /// The template, as JSON.
    pub(super) template: Box<str>,
}

/// Tasks that wait for memory.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The namespaces with waiting tasks, in the order of their turns.
    turns: VecDeque<String>,
    /// The tasks of each namespace in order of arrival, with their numbers.
    queues: HashMap<String, VecDeque<(u64, WaitingTask)>>,
    /// The numbers of the waiting tasks. A task that is not in this map has left.
    numbers: HashMap<TaskKey, u64>,
    arrived: u64,
    /// Size of the templates in the queues.
    bytes: usize,
}

impl Waiting {
    /// Whether no task waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether the replica may take more tasks of a namespace: no task of it waits, and the waiting
    /// tasks of all namespaces are not too large together.
    pub(super) fn has_room_for(&self, namespace: &str) -> bool {
        let is_small = self.bytes < MAX_BYTES;
        is_small && self.queues.get(namespace).is_none_or(VecDeque::is_empty)
    }

    /// Adds a task.
    pub(super) fn add(&mut self, waiting: WaitingTask) {
        self.arrived += 1;
        let number = self.arrived;
        self.numbers.insert(waiting.task.clone(), number);
        self.bytes += waiting.template.len();
        let namespace = &waiting.workflow.namespace;
        if !self.queues.contains_key(namespace) {
            self.turns.push_back(namespace.clone());
        }
        let queue = self.queues.entry(namespace.clone()).or_default();
        queue.push_back((number, waiting));
    }

    /// Removes a task, if it waits.
    pub(super) fn remove(&mut self, task: &TaskKey) {
        self.numbers.remove(task);
    }

    /// Removes all tasks.
    pub(super) fn take_all(&mut self) -> Vec<TaskKey> {
        self.queues.clear();
        self.turns.clear();
        self.bytes = 0;
        self.numbers.drain().map(|(task, _)| task).collect()
    }

    /// Starts tasks until the first task of each namespace has to wait. `start` returns false if
    /// there is no memory for the task.
    pub(super) fn start(&mut self, mut start: impl FnMut(&WaitingTask) -> bool) {
        let mut blocked = 0;
        while blocked < self.turns.len()
            && let Some(namespace) = self.turns.pop_front()
        {
            let Some(first) = self.first(&namespace) else {
                self.queues.remove(&namespace);
                continue;
            };
            match start(first) {
                true => {
                    let task = first.task.clone();
                    self.numbers.remove(&task);
                    blocked = 0;
                }
                false => blocked += 1,
            }
            self.turns.push_back(namespace);
        }
    }

    /// The first task of a namespace that still waits.
    fn first(&mut self, namespace: &str) -> Option<&WaitingTask> {
        let queue = self.queues.get_mut(namespace)?;
        let numbers = &self.numbers;
        let has_left =
            |(number, waiting): &(u64, WaitingTask)| numbers.get(&waiting.task) != Some(number);
        while queue.front().is_some_and(has_left)
            && let Some((_, left)) = queue.pop_front()
        {
            self.bytes -= left.template.len();
        }
        queue.front().map(|(_, waiting)| waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(namespace: &str, node: &str) -> WaitingTask {
        WaitingTask {
            task: TaskKey::new(&namespace.into(), &node.into()),
            workflow: Workflow {
                namespace: namespace.to_owned(),
                ..Workflow::default()
            },
            since: Instant::now(),
            key: TemplateKey::of(namespace, "t"),
            memory: 0,
            template: "{}".into(),
        }
    }

    /// Starts at most `free` tasks.
    fn started(all: &mut Waiting, mut free: usize) -> Vec<String> {
        let mut started = Vec::new();
        all.start(|waiting| {
            let starts = free > 0;
            if starts {
                free -= 1;
                started.push(waiting.task.node.to_string());
            }
            starts
        });
        started
    }

    #[test]
    fn the_namespaces_take_turns() {
        let mut all = Waiting::default();
        for node in ["a1", "a2", "a3"] {
            all.add(waiting("a", node));
        }
        all.add(waiting("b", "b1"));
        assert_eq!(started(&mut all, 0), [""; 0]);
        assert_eq!(started(&mut all, 2), ["a1", "b1"]);
        assert_eq!(started(&mut all, 9), ["a2", "a3"]);
        assert!(all.is_empty());
    }

    #[test]
    fn a_namespace_without_memory_does_not_block_another_one() {
        let mut all = Waiting::default();
        all.add(waiting("a", "large"));
        all.add(waiting("b", "small"));
        let mut started = Vec::new();
        all.start(|waiting| {
            let fits = &*waiting.task.node == "small";
            if fits {
                started.push(waiting.task.node.to_string());
            }
            fits
        });
        assert_eq!(started, ["small"]);
        assert!(!all.is_empty());
    }

    #[test]
    fn a_task_that_has_left_does_not_start() {
        let mut all = Waiting::default();
        all.add(waiting("a", "gone"));
        all.add(waiting("a", "back"));
        all.remove(&waiting("a", "gone").task);
        all.remove(&waiting("a", "back").task);
        all.add(waiting("a", "back"));
        assert_eq!(started(&mut all, 9), ["back"], "only once");
        assert!(all.is_empty() && all.take_all().is_empty());
    }
}
