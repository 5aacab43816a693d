//! Functions in place of unknown imports of a core module.

use wasmtime::{Caller, FuncType, InstancePre, Linker, Module, UnknownImportError};

use super::abort;
use crate::runtime::guest_state::GuestState;
use crate::runtime::load_error::{LoadError, clipped};
use crate::runtime::origin::Origin;
use crate::runtime::unoffered::UnofferedCall;

/// Imports that only tell a host in JavaScript what the guest did. The guest does not depend on
/// them, so they do nothing here. Each entry has a module and the beginning of a name.
const NOTIFICATIONS: &[(&str, &str)] = &[
    // Emscripten with `-sALLOW_MEMORY_GROWTH`: JavaScript makes new views of a memory that grew.
    ("env", "emscripten_notify_memory_growth"),
    // TeaVM, for tools that observe its garbage collector.
    ("teavmHeapTrace", ""),
];

/// Links a module. Unknown functions trap when they are called.
pub(in crate::runtime) fn link_core(
    host: &Linker<GuestState>,
    module: &Module,
) -> Result<InstancePre<GuestState>, LoadError> {
    let linked = match host.instantiate_pre(module) {
        Err(error) if error.is::<UnknownImportError>() => {
            let mut linker = host.clone();
            for import in module.imports() {
                if let Some(ty) = import.ty().func() {
                    offer_function(&mut linker, import.module(), import.name(), ty);
                }
            }
            linker.instantiate_pre(module)
        }
        linked => linked,
    };
    linked.map_err(|error| link_error(module, &error))
}

/// The error for a module that still cannot be linked. An import has another type than the function
/// of the host. The message of wasmtime contains its name.
fn link_error(module: &Module, error: &wasmtime::Error) -> LoadError {
    let message = format!("{error:#}");
    let mut imports = module.imports();
    let refused = imports
        .find(|import| message.contains(&format!("`{}::{}`", import.module(), import.name())));
    let has_64_bit_memory = module.exports().any(|export| {
        let ty = export.ty();
        ty.memory().is_some_and(wasmtime::MemoryType::is_64)
    });
    match refused {
        Some(import) => LoadError::Import {
            import: format!(
                "`{}` from `{}` with another type",
                clipped(import.name()),
                clipped(import.module())
            ),
            hint: match has_64_bit_memory {
                true => {
                    "build for a 32-bit memory, such as `wasm32-wasip1`: WASI 0.1 has pointers of 32 bits"
                }
                false => Origin::of_core(import.module(), import.name()).advice(),
            },
        },
        None => LoadError::Engine(message),
    }
}

/// Defines a function for an import, unless the host offers it. Returns whether the guest traps
/// when it calls the import.
pub(super) fn offer_function(
    linker: &mut Linker<GuestState>,
    module: &str,
    name: &str,
    ty: &FuncType,
) -> bool {
    let is_notification = ty.results().len() == 0
        && NOTIFICATIONS
            .iter()
            .any(|(from, start)| module == *from && name.starts_with(start));
    let is_abort = abort::is_abort(module, name);
    let call = UnofferedCall::of_core(module, name);
    let function = move |caller: Caller<'_, GuestState>, arguments: &[_], _: &mut [_]| {
        if is_notification {
            Ok(())
        } else if is_abort {
            Err(abort::error(caller, arguments))
        } else {
            Err(call.clone().into())
        }
    };
    // The linker refuses a name that is defined, and so keeps what the host offers.
    let defined = linker.func_new(module, name, ty.clone(), function);
    defined.is_ok() && !is_notification
}
