//! The scheduler's rules as plain data: the running steps, the waiters, and the choice of the
//! next waiter.
//!
//! The header of `scheduler` explains the rules. This file has no locks, channels or threads.
//!
//! Arrivals and starts are numbered by one counter, so that a comparison tells which came first.

use std::collections::{HashMap, VecDeque};

/// One slot out of this number is reserved for tenants without a running step, or else for
/// templates without one.
const SLOTS_PER_RESERVED_SLOT: u32 = 8;

/// The resources that all steps share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Maximum number of steps that run at once.
    pub steps: u32,
    /// Maximum of the memory of all running steps together, in bytes. `host_share` says what is
    /// part of a step's memory.
    pub memory: u64,
}

/// Class of a step. Slots are shared fairly between tenants, and then between the templates of a
/// tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The tenant; `None` if all steps have the same one.
    pub tenant: Option<u64>,
    /// The template.
    pub template: u64,
}

impl Class {
    /// The class within which shares are not fair: the tenant, or else the template.
    pub(super) fn share(self) -> Share {
        match self.tenant {
            Some(tenant) => Share::Tenant(tenant),
            None => Share::Template(self.template),
        }
    }
}

/// Who leaves slots and memory to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Share {
    Tenant(u64),
    Template(u64),
}

/// The resources that one step needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRequest {
    /// Class of the step.
    pub class: Class,
    /// Maximum of the step's memory, in bytes. A larger request is reduced to
    /// [`Capacity::memory`].
    pub memory: u64,
}

/// Running steps and waiters. `W` is the handle that wakes a waiter.
#[derive(Debug)]
pub(super) struct Admission<W> {
    capacity: Capacity,
    /// Slots that only tenants or templates without a running step may use.
    reserved_slots: usize,
    /// Requests of the running steps, by the number of their start.
    running: HashMap<u64, SlotRequest>,
    /// Sum of the memory in `running`, in bytes.
    memory_in_use: u64,
    /// Number of running steps of each class. A class without running steps has no entry.
    held: HashMap<Class, u32>,
    /// Number of running steps of each tenant, or of each template. A share without running steps
    /// has no entry.
    held_by_share: HashMap<Share, u32>,
    /// Waiters of each class, in order of arrival. A class without waiters has no entry.
    waiting: HashMap<Class, VecDeque<Waiter<W>>>,
    /// Number of the last arrival or start.
    clock: u64,
    /// The first waiter that lacked memory, as of the last call of `next`.
    blocked: Option<Blocked>,
}

#[derive(Debug)]
struct Waiter<W> {
    arrived: u64,
    memory: u64,
    handle: W,
}

/// First waiter of a class. The derived order is the order in which heads start: fewest running
/// steps of the tenant first, then fewest running steps of the class, then earliest arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    /// Number of running steps of the tenant, or of the template.
    held_by_share: u32,
    /// Number of running steps of the class.
    held: u32,
    arrived: u64,
    class: Class,
    memory: u64,
}

/// The waiter that is first in order and lacks memory.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    arrived: u64,
    /// Value of the clock when the waiter became first. Steps with a later start are backfilled
    /// steps.
    since: u64,
}

/// A step that has just been given its slot.
pub(super) struct Started<W> {
    /// Number of the start, for [`Admission::finish`].
    pub(super) start: u64,
    pub(super) handle: W,
}

impl Head {
    fn request(self) -> SlotRequest {
        SlotRequest {
            class: self.class,
            memory: self.memory,
        }
    }
}

impl<W> Admission<W> {
    pub(super) fn new(capacity: Capacity) -> Self {
        let at_least = u32::from(capacity.steps > 1);
        let reserved_slots = (capacity.steps / SLOTS_PER_RESERVED_SLOT).max(at_least);
        Self {
            capacity,
            reserved_slots: reserved_slots as usize,
            running: HashMap::new(),
            memory_in_use: 0,
            held: HashMap::new(),
            held_by_share: HashMap::new(),
            waiting: HashMap::new(),
            clock: 0,
            blocked: None,
        }
    }

    /// Starts a step at once, if no step waits and the resources are free. Returns the start's
    /// number.
    pub(super) fn try_start(&mut self, request: SlotRequest) -> Option<u64> {
        let request = self.bounded(request);
        let starts = self.waiting.is_empty() && self.has_slot(request) && self.has_memory(request);
        starts.then(|| self.start(request))
    }

    pub(super) fn enqueue(&mut self, request: SlotRequest, handle: W) {
        let request = self.bounded(request);
        let arrived = self.tick();
        let queue = self.waiting.entry(request.class).or_default();
        queue.push_back(Waiter {
            arrived,
            memory: request.memory,
            handle,
        });
    }

    /// Starts the waiter that is next by the rules. `None` if no waiter can start now.
    pub(super) fn start_next(&mut self, is_cancelled: impl Fn(&W) -> bool) -> Option<Started<W>> {
        self.remove_cancelled(is_cancelled);
        let request = self.next()?;
        let waiter = self.pop(request.class)?;
        Some(Started {
            start: self.start(request),
            handle: waiter.handle,
        })
    }

    /// Frees the resources of a running step.
    pub(super) fn finish(&mut self, start: u64) {
        let Some(request) = self.running.remove(&start) else {
            return;
        };
        self.memory_in_use -= request.memory;
        decrement(&mut self.held, &request.class);
        decrement(&mut self.held_by_share, &request.class.share());
    }

    pub(super) fn has_waiters(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.memory_in_use == 0 && self.running.is_empty()
    }

    fn bounded(&self, request: SlotRequest) -> SlotRequest {
        SlotRequest {
            memory: request.memory.min(self.capacity.memory),
            ..request
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn start(&mut self, request: SlotRequest) -> u64 {
        let start = self.tick();
        self.running.insert(start, request);
        self.memory_in_use += request.memory;
        *self.held.entry(request.class).or_default() += 1;
        let share = request.class.share();
        *self.held_by_share.entry(share).or_default() += 1;
        start
    }

    fn pop(&mut self, class: Class) -> Option<Waiter<W>> {
        let queue = self.waiting.get_mut(&class)?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&class);
        }
        waiter
    }

    /// Removes cancelled waiters from the front of each queue. Only the first waiter of a class can
    /// start, so cancelled waiters behind it may stay.
    fn remove_cancelled(&mut self, is_cancelled: impl Fn(&W) -> bool) {
        self.waiting.retain(|_, queue| {
            while queue
                .front()
                .is_some_and(|waiter| is_cancelled(&waiter.handle))
            {
                queue.pop_front();
            }
            !queue.is_empty()
        });
    }

    fn has_slot(&self, request: SlotRequest) -> bool {
        let free = self.capacity.steps as usize - self.running.len();
        let reserved = match self.holds_a_slot(request) {
            true => self.reserved_slots,
            false => 0,
        };
        free > reserved
    }

    /// Whether the tenant of the request has a running step, or else the template.
    fn holds_a_slot(&self, request: SlotRequest) -> bool {
        self.held_by_share.contains_key(&request.class.share())
    }

    fn has_memory(&self, request: SlotRequest) -> bool {
        self.memory_in_use + self.memory_needed(request) <= self.capacity.memory
    }

    /// Free memory that a step needs to start, in bytes. A tenant or template that has running
    /// steps must leave memory for one more step of the same size to others.
    fn memory_needed(&self, request: SlotRequest) -> u64 {
        match self.holds_a_slot(request) {
            true => 2 * request.memory,
            false => request.memory,
        }
    }

    /// The request that starts next. `None` if no waiter can start now.
    fn next(&mut self) -> Option<SlotRequest> {
        if self.running.len() >= self.capacity.steps as usize {
            return None;
        }
        let heads = self.heads();
        let (first, others) = heads.split_first()?;
        // If the first head gets no slot, no other head gets one. The other tenants or templates
        // have at least as many running steps.
        if !self.has_slot(first.request()) {
            return None;
        }
        if self.has_memory(first.request()) {
            return Some(first.request());
        }
        let budget = self.backfill_budget(*first)?;
        others.iter().map(|head| head.request()).find(|request| {
            request.memory <= budget && self.has_slot(*request) && self.has_memory(*request)
        })
    }

    /// First waiters of all classes, in the order in which they start.
    fn heads(&self) -> Vec<Head> {
        let mut heads = Vec::with_capacity(self.waiting.len());
        for (class, queue) in &self.waiting {
            let held = self.held.get(class).copied().unwrap_or_default();
            let held_by_share = self.held_by_share.get(&class.share());
            let held_by_share = held_by_share.copied().unwrap_or_default();
            heads.extend(queue.front().map(|waiter| Head {
                held_by_share,
                held,
                arrived: waiter.arrived,
                class: *class,
                memory: waiter.memory,
            }));
        }
        heads.sort_unstable();
        heads
    }

    /// Memory that a backfilled step may use without a delay for the blocked first waiter, in
    /// bytes. `None` if no step may be backfilled.
    fn backfill_budget(&mut self, first: Head) -> Option<u64> {
        let since = self.blocked_since(first.arrived);
        let starts_after = self.running.iter().filter(|(start, _)| **start > since);
        let backfilled: u64 = starts_after.map(|(_, request)| request.memory).sum();
        let in_use_before = self.memory_in_use - backfilled;
        let needed = self.memory_needed(first.request());
        // If the first waiter would fit beside the earlier steps, only backfilled steps delay it.
        // The memory of the earlier steps is then withheld from new backfilled steps, too.
        let withheld = match in_use_before + needed <= self.capacity.memory {
            true => in_use_before + needed,
            false => needed,
        };
        self.capacity
            .memory
            .checked_sub(backfilled)?
            .checked_sub(withheld)
    }

    /// Value of the clock when the waiter became the first one.
    fn blocked_since(&mut self, arrived: u64) -> u64 {
        let since = match self.blocked {
            Some(blocked) if blocked.arrived == arrived => blocked.since,
            _ => self.clock,
        };
        self.blocked = Some(Blocked { arrived, since });
        since
    }
}

fn decrement<K: Eq + std::hash::Hash>(held: &mut HashMap<K, u32>, key: &K) {
    if let Some(number) = held.get_mut(key) {
        *number -= 1;
        if *number == 0 {
            held.remove(key);
        }
    }
}
