//! Limits the memories, tables, stacks and instances of one store. Tables and stacks need memory,
//! too.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::limits::{LimitGuard, Stop};

/// Size of a table's element, in bytes: a pointer. Some references are smaller.
const ELEMENT_BYTES: usize = size_of::<usize>();
/// Stack that WebAssembly code may use in one call into the module, in bytes.
pub(super) const MAX_WASM_STACK: usize = 1 << 20;
/// Memory that a call may use for its stack, in bytes. A second call on the same stack may have
/// used a part: the host calls the module to allocate memory for a result.
const STACK_BYTES: u64 = 2 * MAX_WASM_STACK as u64;
/// Maximum number of instances, and of tables, of a step. The memory of the instances is reserved
/// before the module is instantiated.
const INSTANCES: usize = 1_000;
/// Maximum number of memories of a step. Each one reserves 4 GiB of addresses and several mappings,
/// and both are limited for the whole process.
const MEMORIES: usize = 100;
/// Maximum number of calls of the host into the module that have not returned. Each such call may
/// have a stack of its own. Each stack needs two memory mappings, and their number is limited for
/// the whole process.
const CALLS: u64 = 200;
/// Calls whose stack is not taken from the step's memory. A simple module needs one call, and a
/// second one if the host allocates memory of the module while the first one waits.
const FREE_CALLS: u64 = 2;

/// The resource limiter of a step's store.
///
/// A guest that exceeds a limit is stopped, like a container. wasmtime could instead let
/// `memory.grow` fail. But most guests then end with a message that does not mention memory.
#[derive(Debug)]
pub(super) struct Limiter {
    guard: Arc<LimitGuard>,
    /// Size of all linear memories, tables and stacks together, in bytes, with the memory that is
    /// reserved for the host.
    memory: u64,
    /// Calls into the module that have not returned.
    calls: u64,
}

impl Limiter {
    /// A limiter that reserves a part of the step's memory for the host, in bytes.
    pub(super) fn new(guard: Arc<LimitGuard>, reserved: u64) -> Self {
        Self {
            guard,
            memory: reserved,
            calls: 0,
        }
    }

    /// Stops the guest if the reserved memory is more than the step's limit. Call this before the
    /// module is instantiated.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.memory > self.guard.limits().memory {
            return Err(self.guard.stop(Stop::Memory));
        }
        Ok(())
    }

    /// Adds the stack of a call into the module to the step's memory.
    pub(super) fn enter(&mut self) -> wasmtime::Result<()> {
        if self.calls == CALLS {
            return Err(wasmtime::format_err!(
                "it has more than {CALLS} calls that wait at the same time"
            ));
        }
        self.calls += 1;
        if self.calls > FREE_CALLS {
            self.memory += STACK_BYTES;
        }
        self.check().map_err(Into::into)
    }

    /// Removes the stack of a call that has ended.
    pub(super) fn leave(&mut self) {
        if self.calls > FREE_CALLS {
            self.memory -= STACK_BYTES;
        }
        self.calls = self.calls.saturating_sub(1);
    }

    /// Adds the growth of a memory or table to the step's memory. All sizes are in bytes. `maximum`
    /// is the maximum that the module declares for it.
    ///
    /// Beyond the module's own maximum, returns `Ok(false)`: only the instruction fails. Beyond the
    /// step's limit, stops the guest.
    fn grow(
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
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired, maximum)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(ELEMENT_BYTES);
        self.grow(bytes(current), bytes(desired), maximum.map(bytes))
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        INSTANCES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_tables_and_the_reserved_part_share_one_limit() {
        let guard = Arc::new(LimitGuard::for_test(100));
        let mut limiter = Limiter::new(Arc::clone(&guard), 10);
        assert!(limiter.memory_growing(0, 10, None).unwrap());
        assert!(limiter.table_growing(0, 5, None).unwrap());
        assert!(limiter.table_growing(5, 10, None).unwrap());
        assert!(
            !limiter.table_growing(10, 20, Some(15)).unwrap(),
            "beyond the table's own maximum, only the instruction fails"
        );
        assert!(limiter.table_growing(10, 11, None).is_err());
        assert_eq!(guard.stopped(), Some(Stop::Memory));
    }

    #[test]
    fn a_guest_whose_reserved_memory_exceeds_the_limit_is_stopped() {
        let guard = Arc::new(LimitGuard::for_test(100));
        assert_eq!(Limiter::new(Arc::clone(&guard), 100).check(), Ok(()));
        let limiter = Limiter::new(Arc::clone(&guard), 101);
        assert_eq!(limiter.check(), Err(Stop::Memory));
        assert_eq!(guard.stopped(), Some(Stop::Memory));
    }

    #[test]
    fn the_third_call_that_waits_needs_memory_of_the_step() {
        let guard = Arc::new(LimitGuard::for_test(2 * STACK_BYTES));
        let mut limiter = Limiter::new(Arc::clone(&guard), 0);
        for _ in 0..3 {
            for _ in 0..4 {
                limiter.enter().unwrap();
            }
            for _ in 0..4 {
                limiter.leave();
            }
        }
        for _ in 0..4 {
            limiter.enter().unwrap();
        }
        assert!(limiter.enter().is_err());
        assert_eq!(guard.stopped(), Some(Stop::Memory));
    }

    #[test]
    fn all_memories_share_one_limit() {
        let guard = Arc::new(LimitGuard::for_test(100));
        let mut limiter = Limiter::new(Arc::clone(&guard), 0);
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
