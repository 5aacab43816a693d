//! A compiled module, ready to run.
//!
//! Linking and the choice of an entry point happen once, when the code is loaded. Each step then
//! only makes an instance.
//!
//! The module also records how long its steps take. `runners` starts steps of a short module on the
//! caller's thread. See [`CompiledModule::is_short`] for the rule.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::code::Code;
use super::engine::{Allocation, Engines};
use super::entry::{Entry, file_calls, imports_files};
use super::file_calls::FileCalls;
use super::kind::Kind;
use super::load_error::LoadError;
use super::metadata::{self, Metadata};

/// The longest time of a step that is short.
const SHORT_TIME: Duration = Duration::from_micros(500);

/// A module that can be run any number of times, also at the same time.
#[derive(Debug)]
pub struct CompiledModule {
    pub(super) entry: Entry,
    pub(super) allocation: Allocation,
    uses_file_system: bool,
    file_calls: FileCalls,
    code_bytes: usize,
    /// Memory of the loaded metadata, in bytes. See `metadata`.
    pub(super) heap_bytes: u64,
    /// Memory of machine code that no file has, in bytes.
    pub(super) code_in_memory: u64,
    /// Memory of all instances of one run, in bytes. See `metadata`.
    pub(super) instance_bytes: u64,
    last_step_was_short: AtomicBool,
    has_overrun: AtomicBool,
}

impl CompiledModule {
    /// Loads code with the pooling engine. If the code does not fit into the pool, loads the code
    /// with the on-demand engine. `load` loads the code with the engine that it is given.
    pub(super) fn load(
        engines: &Engines,
        load: impl Fn(&wasmtime::Engine) -> wasmtime::Result<Code>,
    ) -> Result<Self, LoadError> {
        match load(&engines.pooled.engine) {
            Ok(code) => {
                let metadata = metadata::read(&code)?;
                if !metadata.has_async_calls {
                    return Self::link(engines, &code, metadata, Allocation::Pooled);
                }
                tracing::debug!("the module has async calls; the on-demand engine is used");
            }
            Err(error) => tracing::debug!(
                %error,
                "the module does not fit into the pool; the on-demand engine is used"
            ),
        }
        let code = load(&engines.on_demand.engine)
            .map_err(|error| LoadError::Engine(format!("{error:#}")))?;
        let metadata = metadata::read(&code)?;
        Self::link(engines, &code, metadata, Allocation::OnDemand)
    }

    fn link(
        engines: &Engines,
        code: &Code,
        metadata: Metadata,
        allocation: Allocation,
    ) -> Result<Self, LoadError> {
        let linked = engines.linked(allocation);
        Ok(Self {
            entry: Entry::link(code, linked)?,
            allocation,
            uses_file_system: imports_files(code, linked),
            file_calls: file_calls(code, linked),
            code_bytes: code.machine_code_bytes(),
            heap_bytes: metadata.heap_bytes,
            code_in_memory: 0,
            instance_bytes: metadata.instance_bytes,
            last_step_was_short: AtomicBool::new(false),
            has_overrun: AtomicBool::new(false),
        })
    }

    /// Memory of the metadata, and of code that no file has, in bytes.
    pub(super) fn bytes_in_memory(&self) -> u64 {
        self.heap_bytes.saturating_add(self.code_in_memory)
    }

    /// How the module is run.
    pub fn kind(&self) -> Kind {
        self.entry.kind()
    }

    /// Whether the module can reach files. If so, its steps need a directory.
    pub fn uses_file_system(&self) -> bool {
        self.uses_file_system
    }

    pub(super) fn file_calls(&self) -> FileCalls {
        self.file_calls
    }

    /// Whether the module's instances are allocated from the pool.
    pub fn pooled(&self) -> bool {
        self.allocation == Allocation::Pooled
    }

    /// Whether the next step of the module is expected to be short. All of these must be true:
    ///
    /// - The module cannot reach files. A disk could block the step.
    /// - The last step took at most 500 µs.
    /// - No step that was expected to be short has overrun.
    pub fn is_short(&self) -> bool {
        !self.uses_file_system
            && self.last_step_was_short.load(Ordering::Relaxed)
            && !self.has_overrun.load(Ordering::Relaxed)
    }

    /// Records how long a step of the module took.
    pub fn record_duration(&self, time: Duration) {
        let is_short = time <= SHORT_TIME;
        self.last_step_was_short.store(is_short, Ordering::Relaxed);
    }

    /// Records that a step was expected to be short and was not. The module is never short again.
    pub fn record_overrun(&self) {
        self.has_overrun.store(true, Ordering::Relaxed);
    }

    /// The size of the machine code, in bytes.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}
