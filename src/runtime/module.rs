//! A module that is ready to run: compiled, linked, and looked into once.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{InstancePre, UnknownImportError};
use wasmtime_wasi::{p2, p3};

use super::bindings::StepPre;
use super::code::Code;
use super::engine::{Engines, Linked};
use super::host::Host;

/// How a module is run. Read off its exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WASI 0.1 core module with `_start`.
    CoreCommand,
    /// A component that exports `wasi:cli/run` of WASI 0.2.
    Command,
    /// A component that exports `wasi:cli/run` of WASI 0.3.
    CommandP3,
    /// A component of the step world.
    Step,
}

/// A module that can be run any number of times, at once.
#[derive(Debug)]
pub struct Module {
    pub(super) entry: Entry,
    pooled: bool,
    file_system: bool,
    code_bytes: usize,
    pace: AtomicU8,
}

/// A step that takes no longer may run on a thread that has other things to do.
const SHORT_TIME: Duration = Duration::from_micros(500);
// What `pace` is.
const UNKNOWN: u8 = 0;
const SHORT: u8 = 1;
const OVERRAN: u8 = 2;

pub(super) enum Entry {
    Core(InstancePre<Host>),
    Command(p2::bindings::CommandPre<Host>),
    CommandP3(p3::bindings::CommandPre<Host>),
    Step(StepPre<Host>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.kind())
    }
}

/// Why compiled code cannot be run here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It wants something from the host that is not offered.
    #[error("the module imports {0}, which this executor does not offer")]
    Import(String),
    /// It has nothing to call.
    #[error("the module has no entry point: it exports {0}")]
    NoEntry(String),
    /// The engine does not take it.
    #[error("the module cannot be loaded: {0}")]
    Engine(String),
}

/// A name out of a module, as far as a person needs it.
fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

impl LoadError {
    /// The error for a module that exports only `names`.
    pub(super) fn no_entry(names: impl Iterator<Item = String>) -> Self {
        let names: Vec<String> = names
            .take(8)
            .map(|name| format!("`{}`", shown(&name)))
            .collect();
        Self::NoEntry(if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        })
    }
}

impl Module {
    /// Loads code into the pool, or where it does not fit, on the heap. `load` is called with one engine or both.
    pub(super) fn load(
        engines: &Engines,
        load: impl Fn(&wasmtime::Engine) -> wasmtime::Result<Code>,
    ) -> Result<Self, LoadError> {
        let (code, linked, pooled) = match load(&engines.pooled.engine) {
            Ok(code) => (code, &engines.pooled, true),
            Err(refused) => {
                tracing::debug!(%refused, "the module does not fit the pool");
                let code = load(&engines.on_demand.engine)
                    .map_err(|error| LoadError::Engine(format!("{error:#}")))?;
                (code, &engines.on_demand, false)
            }
        };
        let (entry, file_system, code_bytes) = match code {
            Code::Module(module) => {
                let entry = core_entry(&module, linked)?;
                (
                    entry,
                    imports_files(&module),
                    range_bytes(&module.image_range()),
                )
            }
            Code::Component(component) => {
                let entry = component_entry(&component, linked)?;
                (
                    entry,
                    component_imports_files(&component, linked),
                    range_bytes(&component.image_range()),
                )
            }
        };
        Ok(Self {
            entry,
            pooled,
            file_system,
            code_bytes,
            pace: AtomicU8::new(UNKNOWN),
        })
    }

    /// How it is run.
    pub fn kind(&self) -> Kind {
        self.entry.kind()
    }

    /// Whether it can see files, so that its step needs a directory.
    pub fn uses_file_system(&self) -> bool {
        self.file_system
    }

    /// Whether its instances live in the pool.
    pub fn pooled(&self) -> bool {
        self.pooled
    }

    /// Whether its next step is expected to be short: it reaches no files, where a disk could keep it waiting, and its last was short. A
    /// module that was expected to be and was not is never again.
    pub fn is_short(&self) -> bool {
        !self.file_system && self.pace.load(Ordering::Relaxed) == SHORT
    }

    /// Notes how long a step of it took.
    pub fn took(&self, time: Duration) {
        let pace = if time <= SHORT_TIME { SHORT } else { UNKNOWN };
        let _ = self
            .pace
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                (old != OVERRAN).then_some(pace)
            });
    }

    /// Notes that a step was expected to be short and was not.
    pub fn overran(&self) {
        self.pace.store(OVERRAN, Ordering::Relaxed);
    }

    /// The size of its machine code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }
}

impl Entry {
    fn kind(&self) -> Kind {
        match self {
            Self::Core(_) => Kind::CoreCommand,
            Self::Command(_) => Kind::Command,
            Self::CommandP3(_) => Kind::CommandP3,
            Self::Step(_) => Kind::Step,
        }
    }
}

fn range_bytes(range: &std::ops::Range<*const u8>) -> usize {
    (range.end as usize).saturating_sub(range.start as usize)
}

fn core_entry(module: &wasmtime::Module, linked: &Linked) -> Result<Entry, LoadError> {
    let start = module
        .get_export("_start")
        .and_then(|export| export.func().cloned());
    if start.is_none_or(|start| start.params().len() + start.results().len() > 0) {
        return Err(LoadError::no_entry(
            module.exports().map(|export| export.name().to_owned()),
        ));
    }
    let pre = linked.core.instantiate_pre(module).map_err(|error| {
        match error.downcast_ref::<UnknownImportError>() {
            Some(unknown) => LoadError::Import(format!(
                "`{}` from `{}`",
                shown(unknown.name()),
                shown(unknown.module())
            )),
            None => LoadError::Engine(format!("{error:#}")),
        }
    })?;
    Ok(Entry::Core(pre))
}

fn component_entry(component: &Component, linked: &Linked) -> Result<Entry, LoadError> {
    let names: Vec<String> = component
        .component_type()
        .exports(&linked.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let is_step = names.iter().any(|name| name == "run");
    let command = |version: &str| {
        names
            .iter()
            .any(|name| name.starts_with(&format!("wasi:cli/run@{version}")))
    };
    if !is_step && !command("0.2.") && !command("0.3.") {
        return Err(LoadError::no_entry(names.into_iter()));
    }
    let pre = linked
        .component
        .instantiate_pre(component)
        .map_err(|error| unknown_component_import(component, linked, &error))?;
    let entry = if is_step {
        StepPre::new(pre).map(Entry::Step)
    } else if command("0.3.") {
        p3::bindings::CommandPre::new(pre).map(Entry::CommandP3)
    } else {
        p2::bindings::CommandPre::new(pre).map(Entry::Command)
    };
    entry
        .map_err(|error| LoadError::Engine(format!("its `run` is not the one expected: {error:#}")))
}

/// Which import was refused: the linker's message names it, in words that change with the library's version.
fn unknown_component_import(
    component: &Component,
    linked: &Linked,
    error: &wasmtime::Error,
) -> LoadError {
    let message = format!("{error:#}");
    let imports = component.component_type();
    let named = imports
        .imports(&linked.engine)
        .map(|(name, _)| name)
        .find(|name| message.contains(&format!("`{name}`")));
    match named {
        Some(name) => LoadError::Import(format!("`{}`", shown(name))),
        None => LoadError::Engine(message),
    }
}

/// A core module reaches files only through a preopened directory, which it finds by `fd_prestat_get` or guesses.
fn imports_files(module: &wasmtime::Module) -> bool {
    module.imports().any(|import| {
        matches!(import.module(), "wasi_snapshot_preview1" | "wasi_unstable")
            && (import.name().starts_with("path_") || import.name().starts_with("fd_prestat_"))
    })
}

fn component_imports_files(component: &Component, linked: &Linked) -> bool {
    component
        .component_type()
        .imports(&linked.engine)
        .any(|(name, _)| name.starts_with("wasi:filesystem/preopens@"))
}
