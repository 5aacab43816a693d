//! Entry points: finds what to call in compiled code, and links the code against the host.

use wasmtime::component::Component;
use wasmtime::{InstancePre, UnknownImportError};
use wasmtime_wasi::{p2, p3};

use super::bindings::StepPre;
use super::code::Code;
use super::engine::LinkedEngine;
use super::guest_state::GuestState;
use super::kind::Kind;
use super::load_error::{LoadError, clipped};

/// A linked, pre-instantiated module with its entry point.
pub(super) enum Entry {
    /// Core module with the function `_start`.
    Core(InstancePre<GuestState>),
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
            Code::Module(module) => core_entry(module, linked),
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

fn core_entry(module: &wasmtime::Module, linked: &LinkedEngine) -> Result<Entry, LoadError> {
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
                clipped(unknown.name()),
                clipped(unknown.module())
            )),
            None => LoadError::Engine(format!("{error:#}")),
        }
    })?;
    Ok(Entry::Core(pre))
}

/// A component with both `run` of the step world and `wasi:cli/run` is run as a step.
fn component_entry(component: &Component, linked: &LinkedEngine) -> Result<Entry, LoadError> {
    let names: Vec<String> = component
        .component_type()
        .exports(&linked.engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    let is_step = names.iter().any(|name| name == "run");
    let is_command = |version: &str| {
        let interface = format!("wasi:cli/run@{version}");
        names.iter().any(|name| name.starts_with(&interface))
    };
    if !is_step && !is_command("0.2.") && !is_command("0.3.") {
        return Err(LoadError::no_entry(names.into_iter()));
    }
    let pre = linked
        .component
        .instantiate_pre(component)
        .map_err(|error| import_error(component, linked, &error))?;
    let entry = if is_step {
        StepPre::new(pre).map(Entry::Step)
    } else if is_command("0.3.") {
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

/// The import that the linker refused. The error has no field for its name, and the wording of the
/// message depends on wasmtime's version. So the message is searched for the name of each import.
fn import_error(
    component: &Component,
    linked: &LinkedEngine,
    error: &wasmtime::Error,
) -> LoadError {
    let message = format!("{error:#}");
    let imports = component.component_type();
    let refused = imports
        .imports(&linked.engine)
        .map(|(name, _)| name)
        .find(|name| message.contains(&format!("`{name}`")));
    match refused {
        Some(name) => LoadError::Import(format!("`{}`", clipped(name))),
        None => LoadError::Engine(message),
    }
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
