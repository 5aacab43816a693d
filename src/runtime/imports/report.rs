//! Lists the imports that the host does not offer, without compiling the module.

use wasmtime::{FuncType, InstanceAllocationStrategy};

use super::component::{self, ComponentLinker};
use super::core;
use crate::runtime::engine::LinkedEngine;
use crate::runtime::inspect::{Import, ImportKind, Inspection};
use crate::runtime::unoffered::UnofferedCall;

/// The imports that trap when the module calls them. An entry is one of
/// [`Inspection::import_names`].
/// If the host offers other functions of an interface, the entry is `interface#function`.
///
/// # Errors
///
/// The engine cannot be made on this machine.
pub fn trapping_imports(inspection: &Inspection) -> wasmtime::Result<Vec<String>> {
    let host = LinkedEngine::new(InstanceAllocationStrategy::OnDemand)?;
    if inspection.component {
        let mut linker = ComponentLinker::new(&host.component);
        let imports = inspection.imports.iter();
        let trapping: wasmtime::Result<Vec<_>> = imports
            .map(|import| in_component(&mut linker, import))
            .collect();
        return Ok(trapping?.concat());
    }
    let mut linker = host.core.clone();
    // The linker ignores the type of a function that it has.
    let ty = FuncType::new(&host.engine, [], []);
    let imports = inspection.imports.iter();
    let trapping = imports.filter(|import| {
        import.kind == ImportKind::Function
            && core::offer_function(&mut linker, &import.module, &import.name, &ty)
    });
    Ok(trapping.map(ToString::to_string).collect())
}

fn in_component(linker: &mut ComponentLinker, import: &Import) -> wasmtime::Result<Vec<String>> {
    let name = &import.name;
    let functions = match &import.kind {
        ImportKind::Interface(functions) => functions,
        ImportKind::Function => {
            let call = UnofferedCall::of_function(name);
            let traps = component::offer_function(&mut linker.root(), name, false, call);
            return Ok(traps.then(|| name.clone()).into_iter().collect());
        }
        _ => return Ok(Vec::new()),
    };
    let mut interface = linker.interface(name)?;
    let trapping: Vec<String> = functions
        .iter()
        .filter(|function| {
            let call = UnofferedCall::of_interface(name, function);
            component::offer_function(&mut interface, function, false, call)
        })
        .map(|function| format!("{name}#{function}"))
        .collect();
    Ok(
        if !trapping.is_empty() && trapping.len() == functions.len() {
            vec![name.clone()]
        } else {
            trapping
        },
    )
}
