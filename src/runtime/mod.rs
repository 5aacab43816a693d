//! Running WebAssembly. This module knows nothing of Argo, HTTP or artifact stores: it takes bytes, a directory, limits and
//! arguments, and gives back what the guest did.
//!
//! State lives as long as it can be shared:
//!
//! | lives as long as | what | made |
//! |---|---|---|
//! | the process | two `engine`s, their linkers, the `ticker`, the `runners` | once |
//! | a module | [`Module`]: compiled, linked, pre-instantiated | once for each digest |
//! | a step | a wasmtime `Store` with its `host` state | for each step; this is the hot path |
//!
//! Compiling and loading block for up to seconds and happen on blocking threads. Guests run in the scheduler of `runners`, on threads
//! that have given their async work away, so that file calls may block. The server's async work waits for neither.

mod admission;
mod bindings;
mod code;
mod compiler;
mod disk;
mod engine;
mod host;
mod inspect;
mod limits;
mod module;
mod output;
mod run;
mod runners;
mod scheduler;
mod ticker;
mod wasi_0_1;

pub use admission::{Capacity, SlotRequest};
pub use bindings::wasm_workflow::step::types as step_types;
pub use compiler::{CompileError, Compiler, Retain};
pub use inspect::{Inspection, NotWasm, inspect};
pub use limits::{Limits, Stop};
pub use module::{Kind, LoadError, Module};
pub use output::{Captured, Tee};
pub use run::{Ending, Invocation, Report, Run, run};
pub use runners::Runners;
