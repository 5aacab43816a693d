//! The scheduler: decides which step starts next, within a number of slots and an amount of memory.
//!
//! A step needs one slot and the memory of its limit. The caller gives each step a class: steps of
//! one template of one workflow have the same class. If the steps belong to several tenants, a
//! class also has a tenant. The rules, which `admission` implements:
//!
//! - **Fair share.** The tenant with the fewest running steps starts next, and of its classes the
//!   one with the fewest running steps. If classes are equal, the class with the earliest waiter
//!   starts next.
//! - **FIFO within a class.** Waiters of one class start in order of arrival.
//! - **Reserved slots and memory.** One slot in eight is reserved for tenants that have no running
//!   step, and at least one slot if there are two or more. A tenant that has running steps also
//!   leaves memory for one more step of its size. So a step of another tenant usually starts at
//!   once, even if one tenant has many long steps. Without tenants, the same rule is for classes.
//! - **EASY backfill** (Lifka, "The ANL/IBM SP Scheduling System", 1995). The first waiter may lack
//!   memory while slots are free. Then the first waiter of another class may start, if this does
//!   not delay the first waiter.
//!
//! EASY backfill compares the expected run times of steps. This scheduler does not know run times.
//! Instead, it remembers when the waiter became first:
//!
//! - Steps that started before are *earlier* steps. Steps that started after are *backfilled*
//!   steps.
//! - The waiter must be able to start when all earlier steps have ended. So the backfilled steps
//!   together leave the memory that the waiter needs.
//! - If the waiter would fit beside all earlier steps, only backfilled steps delay the waiter.
//!   Then the earlier steps, the backfilled steps and the waiter must fit together.
//!
//! A waiter is cancelled when the future of [`Scheduler::acquire`] is dropped:
//!
//! - A waiter without a slot is removed from its queue. Other waiters may then start, because the
//!   cancelled waiter may have been first, and may have blocked them.
//! - A slot that was already sent to the waiter is released.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::admission::{Admission, Capacity, SlotRequest};

/// Gives slots to steps. See the file's header for the rules.
#[derive(Debug)]
pub(super) struct Scheduler {
    admission: Mutex<Admission<oneshot::Sender<Slot>>>,
}

/// The right to run one step. Dropping it releases the slot and its memory.
#[derive(Debug)]
pub struct Slot {
    scheduler: Arc<Scheduler>,
    start: u64,
}

/// Calls [`Scheduler::dispatch`] when a waiter is cancelled.
struct CancelGuard<'a> {
    scheduler: &'a Arc<Scheduler>,
    granted: bool,
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if !self.granted {
            self.scheduler.dispatch();
        }
    }
}

impl Scheduler {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self {
            admission: Mutex::new(Admission::new(capacity)),
        })
    }

    /// Waits for a slot. The request is cancelled when the future is dropped.
    pub(super) async fn acquire(self: &Arc<Self>, request: SlotRequest) -> Slot {
        loop {
            if let Some(slot) = self.try_acquire(request) {
                return slot;
            }
            // Locals are dropped in reverse order. When this future is dropped while it waits, the
            // receiver is closed before the guard looks for cancelled waiters.
            let mut guard = CancelGuard {
                scheduler: self,
                granted: false,
            };
            // The queue drops a sender only after its receiver is closed. If the sender is dropped
            // anyway, the loop repeats the request.
            if let Ok(slot) = self.enqueue(request).await {
                guard.granted = true;
                return slot;
            }
        }
    }

    fn try_acquire(self: &Arc<Self>, request: SlotRequest) -> Option<Slot> {
        let start = self.admission.lock().try_start(request)?;
        Some(self.slot(start))
    }

    fn enqueue(self: &Arc<Self>, request: SlotRequest) -> oneshot::Receiver<Slot> {
        let (sender, receiver) = oneshot::channel();
        self.admission.lock().enqueue(request, sender);
        // Between `try_acquire` and now, a slot may have been released or a waiter cancelled.
        self.dispatch();
        receiver
    }

    /// Starts waiters until no waiter can start.
    fn dispatch(self: &Arc<Self>) {
        loop {
            let started = self.admission.lock().start_next(oneshot::Sender::is_closed);
            let Some(started) = started else {
                return;
            };
            // If the waiter has been cancelled meanwhile, `send` returns the slot, and the drop
            // releases it.
            drop(started.handle.send(self.slot(started.start)));
        }
    }

    fn slot(self: &Arc<Self>, start: u64) -> Slot {
        Slot {
            scheduler: Arc::clone(self),
            start,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut admission = self.scheduler.admission.lock();
        admission.finish(self.start);
        let has_waiters = admission.has_waiters();
        drop(admission);
        if has_waiters {
            self.scheduler.dispatch();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::admission::Class;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn scheduler(steps: u32, memory: u64) -> Arc<Scheduler> {
        Scheduler::new(Capacity { steps, memory })
    }

    fn request(template: u64, memory: u64) -> SlotRequest {
        let tenant = None;
        let class = Class { tenant, template };
        SlotRequest { class, memory }
    }

    /// A slot without memory, if one is free at once.
    fn slot_now(scheduler: &Arc<Scheduler>, class: u64) -> Option<Slot> {
        scheduler.acquire(request(class, 0)).now_or_never()
    }

    /// A slot with memory, if both are free at once.
    fn memory_now(scheduler: &Arc<Scheduler>, class: u64, mib: u64) -> Option<Slot> {
        let request = request(class, mib * MIB);
        scheduler.acquire(request).now_or_never()
    }

    #[tokio::test]
    async fn reserved_slots_admit_a_new_class() {
        let scheduler = scheduler(16, 0);
        let mut long: Vec<_> = (0..14).map(|_| slot_now(&scheduler, 1).unwrap()).collect();
        let more = tokio::spawn({
            let scheduler = Arc::clone(&scheduler);
            async move { scheduler.acquire(request(1, 0)).await }
        });
        tokio::task::yield_now().await;
        let second_class = slot_now(&scheduler, 2).unwrap();
        let third_class = slot_now(&scheduler, 3).unwrap();
        assert!(slot_now(&scheduler, 4).is_none(), "all slots are taken");
        drop((second_class, third_class));
        tokio::task::yield_now().await;
        assert!(
            !more.is_finished(),
            "reserved slots are not for a class that runs steps"
        );
        long.pop();
        more.await.unwrap();
    }

    /// A tenant with many templates gets no more than a tenant with one template.
    #[tokio::test]
    async fn tenants_share_the_slots_whatever_their_number_of_templates() {
        let scheduler = scheduler(4, 0);
        let slot_of = |tenant, template| {
            let tenant = Some(tenant);
            let class = Class { tenant, template };
            scheduler.acquire(SlotRequest { class, memory: 0 })
        };
        let _held: Vec<_> = (0..3)
            .map(|template| slot_of(1, template).now_or_never().unwrap())
            .collect();
        let mut fourth = Box::pin(slot_of(1, 3));
        assert!(futures::poll!(&mut fourth).is_pending(), "reserved");
        let other = slot_of(2, 9).now_or_never().unwrap();
        let mut waiting = Box::pin(slot_of(2, 9));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(other);
        assert!(futures::poll!(&mut fourth).is_pending(), "came first");
        assert!(
            futures::poll!(&mut waiting).is_ready(),
            "the second tenant has no running step"
        );
    }

    #[tokio::test]
    async fn the_class_with_the_fewest_running_steps_starts_first() {
        let scheduler = scheduler(2, 0);
        let first = slot_now(&scheduler, 1).unwrap();
        let second = slot_now(&scheduler, 2).unwrap();
        let (sender, mut started) = tokio::sync::mpsc::unbounded_channel();
        for (number, class) in [(0, 1), (1, 1), (2, 1), (3, 3)] {
            let scheduler = Arc::clone(&scheduler);
            let sender = sender.clone();
            tokio::spawn(async move {
                let _slot = scheduler.acquire(request(class, 0)).await;
                sender.send(number).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop((second, first));
        let order: Vec<u32> = [
            started.recv().await,
            started.recv().await,
            started.recv().await,
            started.recv().await,
        ]
        .map(Option::unwrap)
        .to_vec();
        assert_eq!(
            order,
            [3, 0, 1, 2],
            "first the class without running steps, then the others in order of arrival"
        );
    }

    #[tokio::test]
    async fn backfill_leaves_the_memory_that_the_first_waiter_needs() {
        let scheduler = scheduler(16, 100 * MIB);
        let long = memory_now(&scheduler, 1, 50).unwrap();
        let mut large = Box::pin(scheduler.acquire(request(2, 60 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        let backfilled = [
            memory_now(&scheduler, 3, 10).unwrap(),
            memory_now(&scheduler, 4, 30).unwrap(),
        ];
        assert!(
            memory_now(&scheduler, 5, 10).is_none(),
            "with one more backfilled step, the large step would not fit"
        );
        drop(long);
        let large = futures::poll!(&mut large);
        assert!(
            large.is_ready(),
            "the large step waits for no backfilled step"
        );
        drop((large, backfilled));
        assert!(
            memory_now(&scheduler, 5, 200).is_some(),
            "a step that requests more than the capacity runs alone"
        );
        assert!(scheduler.admission.lock().is_idle());
    }

    #[tokio::test]
    async fn reserved_memory_admits_a_new_class() {
        let scheduler = scheduler(16, 300 * MIB);
        let mut running = vec![
            memory_now(&scheduler, 1, 100).unwrap(),
            memory_now(&scheduler, 1, 100).unwrap(),
        ];
        assert!(memory_now(&scheduler, 1, 100).is_none());
        running.push(memory_now(&scheduler, 2, 100).unwrap());
        assert!(
            memory_now(&scheduler, 3, 100).is_none(),
            "all memory is in use"
        );
    }

    /// A stream of short small steps does not delay the second large step of a class for ever.
    #[tokio::test]
    async fn backfill_does_not_starve_a_class_that_runs_steps() {
        let scheduler = scheduler(16, 100 * MIB);
        let _long = memory_now(&scheduler, 1, 30).unwrap();
        let mut small: Vec<Slot> = (0..4)
            .map(|_| memory_now(&scheduler, 2, 10).unwrap())
            .collect();
        let mut large = Box::pin(scheduler.acquire(request(1, 30 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        for _ in 0..20 {
            if !small.is_empty() {
                small.remove(0);
            }
            small.extend(memory_now(&scheduler, 2, 10));
        }
        assert!(futures::poll!(&mut large).is_ready());
    }

    /// The waiters behind a cancelled waiter start without any other event.
    #[tokio::test]
    async fn a_cancelled_waiter_blocks_no_other_waiter() {
        let scheduler = scheduler(16, 100 * MIB);
        let _long = memory_now(&scheduler, 1, 50).unwrap();
        let mut large = Box::pin(scheduler.acquire(request(2, 100 * MIB)));
        assert!(futures::poll!(&mut large).is_pending());
        let mut small = Box::pin(scheduler.acquire(request(3, MIB)));
        assert!(
            futures::poll!(&mut small).is_pending(),
            "the large step needs all memory"
        );
        drop(large);
        assert!(futures::poll!(&mut small).is_ready());
    }

    #[tokio::test]
    async fn a_cancelled_waiter_releases_its_slot() {
        let scheduler = scheduler(1, 0);
        let only = slot_now(&scheduler, 1).unwrap();
        for _ in 0..3 {
            assert!(slot_now(&scheduler, 2).is_none());
        }
        let mut granted = Box::pin(scheduler.acquire(request(3, 0)));
        assert!(futures::poll!(&mut granted).is_pending());
        drop(only);
        // The scheduler has sent the slot. The waiter is dropped before it receives the slot.
        drop(granted);
        assert!(slot_now(&scheduler, 4).is_some());
    }
}
