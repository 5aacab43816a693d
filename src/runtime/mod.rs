//! Runs WebAssembly modules with wasmtime.
//!
//! The input is bytes, a directory, limits and arguments. The output is a [`Report`]. This folder
//! does not know Argo, HTTP or artifact stores.
//!
//! Each object is made as rarely as possible:
//!
//! | object | lifetime |
//! |---|---|
//! | [`Engines`] (with their linkers and the `ticker`), [`Runners`] | the process |
//! | [`CompiledModule`]: compiled, linked, pre-instantiated | one per module digest |
//! | wasmtime `Store` with its `GuestState` | one per step; this is the hot path |
//!
//! Two kinds of work block, and neither blocks the server's async threads:
//!
//! - Compiling takes up to minutes. The `worker` processes compile. Loading takes milliseconds, on
//!   blocking threads.
//! - Guests may block in file calls. [`Runners`] runs guests on threads of their own.

mod admission;
mod bindings;
mod code;
mod compile_error;
mod compiler;
mod directory_lists;
mod disk;
mod engine;
mod entry;
mod features;
mod file_calls;
mod guest_state;
mod host_calls;
mod host_share;
mod imports;
mod inspect;
mod kind;
mod limiter;
mod limits;
mod load_error;
mod metadata;
mod module;
mod module_output;
mod module_source;
mod origin;
mod output;
mod private_directory;
mod retain;
mod run;
mod runners;
mod scheduler;
mod ticker;
mod unoffered;
mod validate;
mod wasi_0_1;
mod worker;

pub use admission::{Capacity, Class, SlotRequest};
pub use bindings::wasm_workflow::step::types as step_types;
pub use compile_error::{CompileError, CompileLimit, ModuleError, Refusal};
pub use compiler::{CompileRequest, Compiler, CompilerSettings, MetadataTooLarge};
pub use engine::Engines;
pub use host_share::FREE_MODULE_BYTES;
pub use imports::trapping_imports;
pub use inspect::{Inspection, NotWasm, inspect};
pub use kind::Kind;
pub use limits::{GuestLimits, Stop};
pub use load_error::LoadError;
pub use module::CompiledModule;
pub use module_source::{ModuleSource, ReadError};
pub use output::{Captured, Tee};
pub use private_directory::check_trusted;
pub use retain::Retain;
pub use run::{Ending, Invocation, Report, Run, run};
pub use runners::Runners;
pub use scheduler::Slot;
pub use unoffered::UnofferedCall;
pub use validate::validate;
pub use worker::{COMMAND as COMPILE_WORKER, Classes, main as compile_worker};
