//! Entry points: finds what to call in compiled code, and links the code against the host.

mod core;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime_wasi::{p2, p3};

use self::core::CoreEntry;
use super::bindings::StepPre;
use super::code::Code;
use super::engine::LinkedEngine;
use super::file_calls::FileCalls;
use super::guest_state::GuestState;
use super::imports::link_component;
use super::kind::{Kind, is_run_of};
use super::load_error::LoadError;

/// A linked, pre-instantiated module with its entry point.
pub(super) enum Entry {
    /// Core module.
    Core(CoreEntry),
    /// Component with `wasi:cli/run` of WASI 0.2.
    Command(p2::bindings::CommandPre<GuestState>),
    /// Component with `wasi:cli/run` of WASI 0.3.
    CommandP3(p3::bindings::CommandPre<GuestState>),
    /// Component with the function `run` of the step world.
    Step(StepPre<GuestState>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.kind())
    }
}

impl Entry {
    /// Links code that was loaded into the engine `linked`.
    pub(super) fn link(code: &Code, linked: &LinkedEngine) -> Result<Self, LoadError> {
        match code {
            Code::Module(module) => CoreEntry::link(module, &linked.core).map(Self::Core),
            Code::Component(component) => component_entry(component, linked),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Core(_) => Kind::CoreCommand,
            Self::Command(_) => Kind::Command,
            Self::CommandP3(_) => Kind::CommandP3,
            Self::Step(_) => Kind::Step,
        }
    }
}

/// A component with both `run` of the step world and `wasi:cli/run` is run as a step. See
/// [`Inspection::kind`](super::Inspection::kind).
fn component_entry(component: &Component, linked: &LinkedEngine) -> Result<Entry, LoadError> {
    let exports = component.component_type();
    let exports = || exports.exports(&linked.engine);
    let is_step = exports().any(|(name, export)| {
        name == "run" && matches!(export.ty, ComponentItem::ComponentFunc(_))
    });
    let is_p3 = exports().any(|(name, _)| is_run_of(name, "0.3."));
    let pre = link_component(&linked.component, component)?;
    let entry = if is_step {
        StepPre::new(pre).map(Entry::Step)
    } else if is_p3 {
        p3::bindings::CommandPre::new(pre).map(Entry::CommandP3)
    } else {
        p2::bindings::CommandPre::new(pre).map(Entry::Command)
    };
    entry.map_err(|error| {
        LoadError::Engine(format!(
            "its export `run` has an unexpected type: {error:#}"
        ))
    })
}

/// Whether the code can reach files.
///
/// A core module reaches files only through a preopened directory. It finds the directory with
/// `fd_prestat_get` or guesses its descriptor, and opens files with `path_*` functions.
pub(super) fn imports_files(code: &Code, linked: &LinkedEngine) -> bool {
    match code {
        Code::Module(module) => module.imports().any(|import| {
            matches!(import.module(), "wasi_snapshot_preview1" | "wasi_unstable")
                && (import.name().starts_with("path_") || import.name().starts_with("fd_prestat_"))
        }),
        Code::Component(component) => component
            .component_type()
            .imports(&linked.engine)
            .any(|(name, _)| name.starts_with("wasi:filesystem/preopens@")),
    }
}

/// Where the file calls of the code run.
pub(super) fn file_calls(code: &Code, linked: &LinkedEngine) -> FileCalls {
    let Code::Component(component) = code else {
        return FileCalls::OnGuestThread;
    };
    let ty = component.component_type();
    let mut imports = ty.imports(&linked.engine);
    if imports.any(|(name, _)| name.starts_with("wasi:filesystem/types@0.3.")) {
        FileCalls::OnAnotherThread
    } else {
        FileCalls::OnGuestThread
    }
}
