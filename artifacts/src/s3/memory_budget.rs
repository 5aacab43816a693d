//! Limits the memory that the parts of objects use.
//!
//! Parts are held in memory as a whole. All transfers of the process share one budget. Each server
//! has a smaller budget, so a server that never finishes its transfers leaves memory for other
//! servers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unit of the budgets.
const UNIT_BYTES: u64 = 1 << 20;
/// Units for all servers.
const TOTAL_UNITS: u32 = 48;
/// Units for one server.
const SERVER_UNITS: u32 = 24;

/// The budget of the process.
#[derive(Clone, Debug)]
pub(crate) struct SharedMemory {
    total: Arc<Semaphore>,
    /// Budgets in use, by the name of the server.
    servers: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// The budget of one server, within the budget of the process.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    total: Arc<Semaphore>,
    server: Arc<Semaphore>,
}

/// Permit to use memory. Dropping the permit releases the memory.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    total: Option<OwnedSemaphorePermit>,
    server: Option<OwnedSemaphorePermit>,
}

impl SharedMemory {
    pub(crate) fn new() -> Self {
        Self {
            total: units(TOTAL_UNITS),
            servers: Arc::default(),
        }
    }

    /// The budget of a server. All its buckets share the budget.
    pub(crate) fn for_server(&self, server: &str) -> MemoryBudget {
        let mut servers = self.servers.lock();
        servers.retain(|_, budget| Arc::strong_count(budget) > 1);
        let server = servers
            .entry(server.to_owned())
            .or_insert_with(|| units(SERVER_UNITS));
        MemoryBudget {
            total: Arc::clone(&self.total),
            server: Arc::clone(server),
        }
    }
}

impl MemoryBudget {
    /// Waits until the memory is free. A request above the budget of the server is
    /// reduced to this budget.
    pub(super) async fn acquire(&self, bytes: u64) -> MemoryPermit {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(SERVER_UNITS)
            .clamp(1, SERVER_UNITS);
        // The semaphores are never closed, so both calls succeed.
        let server = Arc::clone(&self.server).acquire_many_owned(units).await;
        let total = Arc::clone(&self.total).acquire_many_owned(units).await;
        MemoryPermit {
            total: total.ok(),
            server: server.ok(),
        }
    }
}

impl MemoryPermit {
    /// Splits off one half.
    pub(super) fn split(&mut self) -> Self {
        let half = |permit: &mut Option<OwnedSemaphorePermit>| {
            permit
                .as_mut()
                .and_then(|permit| permit.split(permit.num_permits() / 2))
        };
        Self {
            total: half(&mut self.total),
            server: half(&mut self.server),
        }
    }
}

fn units(count: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count as usize))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_server_that_uses_its_budget_leaves_memory_for_others() {
        let memory = SharedMemory::new();
        let hostile = memory.for_server("hostile");
        let other = memory.for_server("other");
        let mut held: Vec<MemoryPermit> = Vec::new();
        while let Some(permit) = hostile.acquire(4 << 20).now_or_never() {
            held.push(permit);
        }
        assert_eq!(held.len(), 6);
        assert!(
            memory
                .for_server("hostile")
                .acquire(1)
                .now_or_never()
                .is_none(),
            "all buckets of a server share its budget"
        );
        let mut both = other
            .acquire(10 << 20)
            .now_or_never()
            .expect("the other server has a budget of its own");
        drop(both.split());
        assert!(
            other.acquire(19 << 20).now_or_never().is_some(),
            "one half is released"
        );
        drop(held);
        assert!(hostile.acquire(u64::MAX).now_or_never().is_some());
    }
}
