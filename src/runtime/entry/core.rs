//! The entry point of a core module.
//!
//! The functions are called as `wasmtime run` calls them: `_initialize`, if it exists, then the
//! export with the empty name, else `_start`.

use std::fmt::Write;

use wasmtime::{InstancePre, Module, ModuleExport, Store, Val};

use crate::runtime::guest_state::GuestState;
use crate::runtime::imports::link_core;
use crate::runtime::load_error::LoadError;

/// A linked core module with the functions to call.
pub(in crate::runtime) struct CoreEntry {
    pre: InstancePre<GuestState>,
    initialize: Option<ModuleExport>,
    /// `None` for a program that ends when its instance is made or initialised.
    main: Option<ModuleExport>,
}

impl CoreEntry {
    /// Links a module whose entry point was found by
    /// [`Inspection::kind`](crate::runtime::Inspection::kind).
    pub(super) fn link(
        module: &Module,
        host: &wasmtime::Linker<GuestState>,
    ) -> Result<Self, LoadError> {
        let function = |name: &str| {
            let is_function = module.get_export(name)?.func().is_some();
            is_function.then(|| module.get_export_index(name)).flatten()
        };
        Ok(Self {
            pre: link_core(host, module)?,
            initialize: function("_initialize"),
            main: function("").or_else(|| function("_start")),
        })
    }

    /// Makes an instance and runs it. Returns the values that the main function returned, as lines
    /// of text: `wasmtime run` prints them.
    pub(in crate::runtime) async fn call(
        &self,
        store: &mut Store<GuestState>,
    ) -> wasmtime::Result<String> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let mut printed = String::new();
        for function in [&self.initialize, &self.main].into_iter().flatten() {
            let function = instance.get_module_export(&mut *store, function);
            let Some(function) = function.and_then(wasmtime::Extern::into_func) else {
                continue;
            };
            if let Ok(function) = function.typed::<(), ()>(&*store) {
                function.call_async(&mut *store, ()).await?;
                continue;
            }
            let count = function.ty(&*store).results().len();
            let mut results = vec![Val::I32(0); count];
            function.call_async(&mut *store, &[], &mut results).await?;
            for result in results {
                let _ = writeln!(printed, "{}", text(&result));
            }
        }
        Ok(printed)
    }
}

/// A value as `wasmtime run` prints it. References have no text.
fn text(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::V128(value) => value.as_u128().to_string(),
        _ => "<reference>".to_owned(),
    }
}
