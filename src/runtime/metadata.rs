//! What the metadata of compiled code says about a module. wasmtime writes the metadata into the
//! code, and has no public interface for it.
//!
//! **Memory of instances**, without linear memories and tables. wasmtime allocates a record for
//! each core instance (`VMContext`): 16 bytes for each global, 32 bytes for each function that can
//! be a reference, and space for imports, tables, memories, tags and data segments. Passive element
//! segments are copied into each instance, with 16 bytes for each element. So a module of a few
//! megabytes can need gigabytes if a component instantiates it often. wasmtime does not ask
//! `wasmtime::ResourceLimiter` for this memory.
//!
//! The metadata has the exact sizes. For a component, it also lists all core instances, with those
//! of nested components.
//!
//! **Memory of the metadata.** wasmtime keeps it in the heap as long as the module is loaded.
//!
//! **Async calls** between the components of one component. Each such call has a stack of its own
//! until it returns. In all other modules, only a few calls into the module are active at a time.

use wasmtime_environ::component::{
    ComponentArtifacts, GlobalInitializer, InstantiateModule, VMComponentOffsets,
};
use wasmtime_environ::obj::ELF_WASMTIME_INFO;
use wasmtime_environ::object::{File, Object, ObjectSection, ReadCache};
use wasmtime_environ::{
    CompiledFunctionsTable, CompiledModuleInfo, HostPtr, Initializer, Module, ModuleTypes,
    VMOffsets,
};

use super::code::Code;
use super::load_error::LoadError;

/// The memory of an instance beside its `VMContext`, in bytes: an upper estimate.
const INSTANCE_BYTES: u64 = 512;
/// The memory of a table, a memory or a passive element segment beside its content, in bytes.
const ITEM_BYTES: u64 = 256;
/// Size of an element of a passive element segment, in bytes.
const ELEMENT_BYTES: u64 = 16;

/// Memory that wasmtime needs for each byte of metadata, in bytes: an upper estimate. Measured: 18
/// for exports, 25 to 38 for types.
const HEAP_PER_BYTE: u64 = 40;

/// The part of the metadata that is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    /// The memory of the loaded metadata, in bytes. It is also needed while no step runs the
    /// module.
    pub(super) heap_bytes: u64,
    /// The memory of all instances of one run, in bytes.
    pub(super) instance_bytes: u64,
    /// Whether components inside the component may call each other's async functions.
    pub(super) has_async_calls: bool,
}

/// The memory that the metadata of the code in a file needs when it is loaded, in bytes. The code
/// is not loaded.
pub(super) fn heap_bytes_of(file: &std::fs::File) -> Result<u64, LoadError> {
    let cache = ReadCache::new(file);
    let file = File::parse(&cache).map_err(|error| unreadable(&error))?;
    let section = file.section_by_name(ELF_WASMTIME_INFO);
    let section = section.ok_or_else(|| unreadable(&"no section with metadata"))?;
    Ok(section.size().saturating_mul(HEAP_PER_BYTE))
}

/// Reads the metadata of the code.
pub(super) fn read(code: &Code) -> Result<Metadata, LoadError> {
    let file = File::parse(code.image()).map_err(|error| unreadable(&error))?;
    let section = file.section_by_name(ELF_WASMTIME_INFO);
    let section = section.ok_or_else(|| unreadable(&"no section with metadata"))?;
    let metadata = section.data().map_err(|error| unreadable(&error))?;
    let heap_bytes = (metadata.len() as u64).saturating_mul(HEAP_PER_BYTE);
    match code {
        Code::Module(_) => {
            let read = postcard::from_bytes::<ModuleMetadata>(metadata);
            let metadata = read.map_err(|error| unreadable(&error))?;
            Ok(Metadata {
                heap_bytes,
                instance_bytes: bytes_of_instance(&metadata.0.module),
                has_async_calls: false,
            })
        }
        Code::Component(_) => {
            let read = postcard::from_bytes::<ComponentArtifacts>(metadata);
            let artifacts = read.map_err(|error| unreadable(&error))?;
            Ok(Metadata {
                heap_bytes,
                instance_bytes: bytes_of_component(&artifacts),
                has_async_calls: has_async_calls(&artifacts),
            })
        }
    }
}

/// The metadata of a core module, in wasmtime's order.
type ModuleMetadata = (CompiledModuleInfo, CompiledFunctionsTable, ModuleTypes);

fn unreadable(error: &dyn std::fmt::Display) -> LoadError {
    LoadError::Engine(format!("the metadata of its code cannot be read: {error}"))
}

/// The import of each adapter module that makes an async call (`wasmtime_environ::fact`).
const PREPARE_CALL: &str = "[prepare-call]";

fn has_async_calls(artifacts: &ComponentArtifacts) -> bool {
    let mut modules = artifacts.static_modules.values();
    modules.any(|CompiledModuleInfo { module, .. }| {
        let mut imports = module.initializers.iter();
        imports.any(|Initializer::Import { field, .. }| {
            module.strings[*field].starts_with(PREPARE_CALL)
        })
    })
}

fn bytes_of_component(artifacts: &ComponentArtifacts) -> u64 {
    let component = &artifacts.info.component;
    let sizes: Vec<u64> = artifacts
        .static_modules
        .iter()
        .map(|(_, module)| bytes_of_instance(&module.module))
        .collect();
    let instances = component.initializers.iter().map(|initializer| {
        let GlobalInitializer::InstantiateModule(instantiate, _) = initializer else {
            return 0;
        };
        match instantiate {
            InstantiateModule::Static(index, _) => sizes[index.as_u32() as usize],
            // The host offers no modules, so such a component cannot be linked.
            InstantiateModule::Import(..) => 0,
        }
    });
    let own = u64::from(VMComponentOffsets::new(HostPtr, component).size_of_vmctx());
    instances.fold(own, u64::saturating_add)
}

fn bytes_of_instance(module: &Module) -> u64 {
    let record = u64::from(VMOffsets::new(HostPtr, module).size_of_vmctx());
    let items =
        module.num_defined_memories() + module.num_defined_tables() + module.passive_elements.len();
    let elements = module.passive_elements.iter();
    let elements = elements.fold(0_u64, |sum, (_, (_, length))| sum.saturating_add(*length));
    elements
        .saturating_mul(ELEMENT_BYTES)
        .saturating_add(record + INSTANCE_BYTES)
        .saturating_add(items as u64 * ITEM_BYTES)
}
