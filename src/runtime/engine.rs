//! The two wasmtime engines and the linkers that modules are linked with.
//!
//! Both engines compile modules to the same code. They differ in how they allocate instances:
//!
//! - The *pooling* engine allocates an instance in microseconds. Its slots have fixed sizes.
//! - The *on-demand* engine allocates each instance with new memory mappings. It runs modules that
//!   do not fit a slot of the pool: two tables in a core module, a large table, or components
//!   inside that call each other's async functions. Such a component needs many stacks, and the
//!   stacks of the pool are never returned to the system.
//!
//! The pool is large enough for the maximum number of running steps, with the maximum that one
//! component may use in each. So a step that has a slot of the `scheduler` always finds room in the
//! pool. The scheduler is the only queue.

use wasmtime::component::Linker as ComponentLinker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig,
};

use super::directory_lists;
use super::guest_state::GuestState;
use super::limiter::MAX_WASM_STACK;
use super::ticker::Ticker;
use super::wasi_0_1;

/// Core instances of one component in the pool. A component that exceeds this limit, or one of the
/// next two, is allocated on demand.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 8;
const TABLES: u32 = 32;
/// Stacks for each step. A component whose parts call each other's async functions needs more, and
/// is allocated on demand.
const STACKS: u32 = 4;

/// Size of a stack, in bytes. The largest use is:
///
/// 1. The module's code uses [`MAX_WASM_STACK`].
/// 2. It calls a host function.
/// 3. The host function calls the module again, to allocate memory for a result. wasmtime then
///    allows [`MAX_WASM_STACK`] from here on. This call may not call the host.
///
/// If a guest reaches the end of its stack, the kernel ends the whole process. So one part more
/// than these three is in the size. Memory that is not used costs nothing.
const ASYNC_STACK: usize = 4 * MAX_WASM_STACK;

/// The engine that allocates a module's instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocation {
    Pooled,
    OnDemand,
}

/// An engine with its linkers.
pub(super) struct LinkedEngine {
    pub(super) engine: Engine,
    pub(super) core: Linker<GuestState>,
    pub(super) component: ComponentLinker<GuestState>,
}

/// The pooling engine, the on-demand engine, and the ticker that interrupts guests of both.
pub struct Engines {
    pub(super) pooled: LinkedEngine,
    pub(super) on_demand: LinkedEngine,
    pub(super) ticker: Ticker,
}

impl std::fmt::Debug for Engines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engines")
            .field("ticker", &self.ticker)
            .finish_non_exhaustive()
    }
}

impl Engines {
    /// Engines for at most `steps` running steps.
    pub(super) fn new(steps: u32) -> wasmtime::Result<Self> {
        let pooled = LinkedEngine::new(InstanceAllocationStrategy::Pooling(pool(steps)))?;
        let on_demand = LinkedEngine::new(InstanceAllocationStrategy::OnDemand)?;
        let ticker = Ticker::start(vec![pooled.engine.clone(), on_demand.engine.clone()])?;
        Ok(Self {
            pooled,
            on_demand,
            ticker,
        })
    }

    pub(super) fn linked(&self, allocation: Allocation) -> &LinkedEngine {
        match allocation {
            Allocation::Pooled => &self.pooled,
            Allocation::OnDemand => &self.on_demand,
        }
    }
}

impl LinkedEngine {
    /// An engine whose linkers have everything that the host offers.
    pub(super) fn new(strategy: InstanceAllocationStrategy) -> wasmtime::Result<Self> {
        let engine = Engine::new(config().allocation_strategy(strategy))?;
        let mut core = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut core, |state: &mut GuestState| {
            &mut state.wasi
        })?;
        wasmtime_wasi::p0::add_to_linker_async(&mut core, |state: &mut GuestState| {
            &mut state.wasi
        })?;
        wasi_0_1::replace(&mut core)?;
        let mut component = ComponentLinker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component)?;
        directory_lists::replace(&mut component)?;
        wasmtime_wasi::p3::add_to_linker(&mut component)?;
        super::bindings::Step::add_to_linker::<GuestState, wasmtime::component::HasSelf<GuestState>>(
            &mut component,
            |state| state,
        )?;
        Ok(Self {
            engine,
            core,
            component,
        })
    }
}

/// The settings of all engines, in this process and in the compile workers. Code runs only in an
/// engine with the same settings.
pub(super) fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .wasm_component_model_async(true)
        .max_wasm_stack(MAX_WASM_STACK)
        .async_stack_size(ASYNC_STACK);
    config
}

fn pool(steps: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(steps)
        .total_core_instances(steps * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(steps * MEMORIES)
        .max_memories_per_component(MEMORIES)
        .total_tables(steps * TABLES)
        .max_tables_per_component(TABLES)
        .total_stacks(steps * STACKS)
        .total_gc_heaps(steps)
        // An unused slot stays prepared for the module that used it last. With more than `steps`
        // such slots, the least recently used slot is taken before a new one. So a server with many
        // modules keeps few slots resident.
        .max_unused_warm_slots(steps)
        // The beginning of a used slot is zeroed in place. This is faster than new pages.
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
