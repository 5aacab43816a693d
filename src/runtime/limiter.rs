//! Limits the memories, tables and instances of one store.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::limits::{LimitGuard, Stop};

/// Maximum number of elements in all tables of a step together.
const TABLE_ELEMENTS: usize = 10_000_000;
/// Maximum number of instances, of tables and of memories of a step.
const INSTANCES: usize = 1_000;

/// The resource limiter of a step's store.
///
/// A guest that exceeds a limit is stopped, like a container. wasmtime could instead let
/// `memory.grow` fail. But most guests then end with a message that does not mention memory.
#[derive(Debug)]
pub(super) struct Limiter {
    guard: Arc<LimitGuard>,
    /// Size of all linear memories together, in bytes.
    memory: u64,
    /// Number of elements in all tables together.
    table_elements: usize,
}

impl Limiter {
    pub(super) fn new(guard: Arc<LimitGuard>) -> Self {
        Self {
            guard,
            memory: 0,
            table_elements: 0,
        }
    }
}

impl ResourceLimiter for Limiter {
    /// Returns `Ok(false)`, and so lets the instruction fail, beyond the maximum that the module
    /// itself declares. Stops the guest beyond the step's limit.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self
            .memory
            .saturating_sub(current as u64)
            .saturating_add(desired as u64);
        if wanted > self.guard.limits().memory {
            return Err(self.guard.stop(Stop::Memory).into());
        }
        self.memory = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = self
            .table_elements
            .saturating_sub(current)
            .saturating_add(desired);
        if wanted > TABLE_ELEMENTS {
            return Err(self.guard.stop(Stop::Memory).into());
        }
        self.table_elements = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        INSTANCES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_share_one_limit() {
        let guard = Arc::new(LimitGuard::for_test(100));
        let mut limiter = Limiter::new(Arc::clone(&guard));
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(limiter.memory_growing(40, 60, None).unwrap());
        assert!(
            !limiter.memory_growing(60, 200, Some(100)).unwrap(),
            "beyond the module's own maximum, only the instruction fails"
        );
        assert!(limiter.memory_growing(0, 1, None).is_err());
        assert_eq!(guard.stopped(), Some(Stop::Memory));
    }
}
