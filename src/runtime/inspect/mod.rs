//! Reads a WebAssembly binary without compiling it: its imports, its exports, and how it is run.

mod entry_point;
mod not_wasm;
mod read;

use std::fmt;

use wasmparser::ValType;

pub use not_wasm::NotWasm;
pub use read::inspect;

/// Imports, exports and other facts of a binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// True for a component, false for a core module.
    pub component: bool,
    /// What the binary imports. Types are left out, because the host does not supply them.
    pub(super) imports: Vec<Import>,
    /// What the binary exports.
    pub(super) exports: Vec<Export>,
    /// Number of imports. For an interface, the number of its functions and types.
    pub(super) imported_items: usize,
    /// Names of the custom sections.
    pub(super) custom_sections: Vec<String>,
    /// Whether a core module has a start function. The engine calls it when it makes an instance.
    pub(super) has_start_function: bool,
    /// Whether a core module has a memory that threads can share.
    pub(super) has_shared_memory: bool,
}

impl Inspection {
    /// The imports: `module name` for a core module, names of interfaces for a component.
    pub fn import_names(&self) -> Vec<String> {
        self.imports.iter().map(ToString::to_string).collect()
    }

    /// Names of the exports.
    pub fn export_names(&self) -> Vec<String> {
        let exports = self.exports.iter();
        exports.map(|export| export.name.clone()).collect()
    }
}

/// An import of a core module or a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// The module of a core import. Empty for an import of a component.
    pub(super) module: String,
    /// The name of the import. For a component, mostly the name of an interface.
    pub(super) name: String,
    pub(super) kind: ImportKind,
}

/// The kind of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImportKind {
    Function,
    /// An interface, with the names of its functions.
    Interface(Vec<String>),
    /// A core memory that threads can share.
    SharedMemory,
    /// Something else that a module cannot do without, such as `memory` or `component`.
    Other(&'static str),
}

/// An export of a core module or a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// The name of the export.
    pub(super) name: String,
    pub(super) kind: ExportKind,
}

/// The kind of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExportKind {
    CoreFunction(Signature),
    ComponentFunction,
    Other,
}

/// Parameters and results of a core function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) params: Vec<ValType>,
    pub(super) results: Vec<ValType>,
}

/// `module name` for an import of a core module, the name for an import of a component.
impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.module.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{} {}", self.module, self.name)
        }
    }
}
