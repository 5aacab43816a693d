//! Memory for what is on its way: parts are whole in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is shared out, in pieces of 1 MiB, among all transfers of this process.
const ALL: u32 = 48;
/// The most that one server has of it: one that keeps what it got leaves the others theirs.
const OF_ONE: u32 = 24;
const PIECE: u64 = 1 << 20;

/// The memory for all servers.
#[derive(Clone, Debug)]
pub(crate) struct SharedMemory {
    all: Arc<Semaphore>,
    /// Those in use, by their names.
    servers: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// The memory of one server.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBudget {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Memory for a part. Free for others when it is dropped.
#[derive(Debug)]
pub(super) struct MemoryPermit {
    all: Option<OwnedSemaphorePermit>,
    own: Option<OwnedSemaphorePermit>,
}

impl SharedMemory {
    pub(crate) fn new() -> Self {
        Self {
            all: permits(ALL),
            servers: Arc::default(),
        }
    }

    /// The part of one server, of whichever of its buckets.
    pub(crate) fn for_server(&self, server: &str) -> MemoryBudget {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, own| Arc::strong_count(own) > 1);
        let own = servers
            .entry(server.to_owned())
            .or_insert_with(|| permits(OF_ONE));
        MemoryBudget {
            all: Arc::clone(&self.all),
            own: Arc::clone(own),
        }
    }
}

impl MemoryBudget {
    /// Waits until there is so much. More than a server may have is as much as it may have.
    pub(super) async fn acquire(&self, bytes: u64) -> MemoryPermit {
        let pieces = u32::try_from(bytes.div_ceil(PIECE))
            .unwrap_or(OF_ONE)
            .clamp(1, OF_ONE);
        // Nobody closes them.
        let own = Arc::clone(&self.own).acquire_many_owned(pieces).await.ok();
        let all = Arc::clone(&self.all).acquire_many_owned(pieces).await.ok();
        MemoryPermit { all, own }
    }
}

impl MemoryPermit {
    /// Half of it, for somebody else.
    pub(super) fn split(&mut self) -> Self {
        let half = |permit: &mut Option<OwnedSemaphorePermit>| {
            permit
                .as_mut()
                .and_then(|permit| permit.split(permit.num_permits() / 2))
        };
        Self {
            all: half(&mut self.all),
            own: half(&mut self.own),
        }
    }
}

fn permits(count: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(count as usize))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_server_that_keeps_its_memory_leaves_others_theirs() {
        let all = SharedMemory::new();
        let (hostile, other) = (all.for_server("hostile"), all.for_server("other"));
        let mut kept: Vec<MemoryPermit> = Vec::new();
        while let Some(permit) = hostile.acquire(4 << 20).now_or_never() {
            kept.push(permit);
        }
        assert_eq!(kept.len(), 6);
        assert!(
            all.for_server("hostile")
                .acquire(1)
                .now_or_never()
                .is_none(),
            "another bucket is the same server"
        );
        let mut two = other.acquire(10 << 20).now_or_never().expect("its own");
        drop(two.split());
        assert!(
            other.acquire(19 << 20).now_or_never().is_some(),
            "half of it is free again"
        );
        drop(kept);
        assert!(hostile.acquire(u64::MAX).now_or_never().is_some());
    }
}
