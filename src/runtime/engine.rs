//! The two engines, and what every module is linked against.
//!
//! Both compile to the same code; they differ in where instances live. The pool takes them in microseconds but has slots of
//! fixed sizes, so what does not fit (two tables, a large table) lives on the heap of the second engine.
//!
//! The pool is as large as all steps that run at once can fill it, each with the most that one component may use. So a step
//! that has a place always finds room, and waiting for a place is the only queue.

use wasmtime::component::Linker as ComponentLinker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Linker, PoolingAllocationConfig,
};

use super::host::Host;
use super::ticker::Ticker;
use super::wasi_0_1;

/// What one component may use of the pool. A component that needs more lives on the heap.
const CORE_INSTANCES: u32 = 64;
const MEMORIES: u32 = 8;
const TABLES: u32 = 32;
/// Stacks: a component with async functions suspended has one for each.
const STACKS: u32 = 64;

const MAX_WASM_STACK: usize = 1 << 20;
const ASYNC_STACK: usize = 2 << 20;

/// An engine with the linkers for it.
pub(super) struct Linked {
    pub(super) engine: Engine,
    pub(super) core: Linker<Host>,
    pub(super) component: ComponentLinker<Host>,
}

/// Both engines.
pub(super) struct Engines {
    pub(super) pooled: Linked,
    pub(super) on_demand: Linked,
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
    /// Engines for at most `steps` steps at once.
    pub(super) fn new(steps: u32) -> wasmtime::Result<Self> {
        let pooled = Linked::new(InstanceAllocationStrategy::Pooling(pool(steps)))?;
        let on_demand = Linked::new(InstanceAllocationStrategy::OnDemand)?;
        let ticker = Ticker::start(vec![pooled.engine.clone(), on_demand.engine.clone()])?;
        Ok(Self {
            pooled,
            on_demand,
            ticker,
        })
    }
}

impl Linked {
    fn new(strategy: InstanceAllocationStrategy) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .allocation_strategy(strategy)
            .epoch_interruption(true)
            .wasm_component_model_async(true)
            .max_wasm_stack(MAX_WASM_STACK)
            .async_stack_size(ASYNC_STACK);
        let engine = Engine::new(&config)?;
        let mut core = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut core, |host: &mut Host| &mut host.wasi)?;
        wasmtime_wasi::p0::add_to_linker_async(&mut core, |host: &mut Host| &mut host.wasi)?;
        wasi_0_1::replace(&mut core)?;
        let mut component = ComponentLinker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component)?;
        wasmtime_wasi::p3::add_to_linker(&mut component)?;
        super::bindings::Step::add_to_linker::<Host, wasmtime::component::HasSelf<Host>>(
            &mut component,
            |host| host,
        )?;
        Ok(Self {
            engine,
            core,
            component,
        })
    }
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
        // Slots of the module that ran last are reused first, so that a server that runs many keeps few of them warm.
        .max_unused_warm_slots(steps)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}
