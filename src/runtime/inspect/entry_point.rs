//! How a binary is run, or why this executor cannot run it.
//!
//! A core module is run as `wasmtime run` does: `_initialize` first, then the export with the empty
//! name or `_start`. Some compilers, such as Kotlin's, put the whole program into `_initialize` or
//! into the start function. Such a module is run if it exports no other function.

use super::{Export, ExportKind, ImportKind, Inspection, Signature};
use crate::runtime::kind::{Kind, is_run_of};
use crate::runtime::load_error::{LoadError, clipped, listed};
use crate::runtime::origin::Origin;

/// Maximum number of imports. The host defines a function for each unknown import, which needs
/// memory.
const MAX_IMPORTS: usize = 10_000;
/// Interfaces with which a component answers requests of a host.
const HANDLERS: &[&str] = &[
    "wasi:http/incoming-handler",
    "wasi:http/handler",
    "fermyon:spin/inbound-http",
    "spin:up/http-trigger",
];
/// Exports that only a toolchain for JavaScript makes.
const EXPORTS_OF_TOOLCHAINS: &[(&str, Origin)] = &[
    ("__wbindgen_", Origin::WasmBindgen),
    ("__wbg_", Origin::WasmBindgen),
    ("_emscripten_", Origin::Emscripten),
    ("emscripten_", Origin::Emscripten),
    ("stackSave", Origin::Emscripten),
    ("__rtti_base", Origin::AssemblyScript),
    ("getsp", Origin::GoForJavaScript),
];
const PROGRAM_ADVICE: &str = "build a program with a `main` function, for `wasm32-wasip1` or \
                              `wasm32-wasip2`, and not a library";

impl Inspection {
    /// How the module is run. A component with both kinds of entry point is run as a step.
    pub fn kind(&self) -> Result<Kind, LoadError> {
        if self.component {
            let kind = self.component_kind()?;
            self.refuse_imports()?;
            return Ok(kind);
        }
        if let Some(file) = self.unfinished_file() {
            return Err(file);
        }
        self.refuse_imports()?;
        if self.has_shared_memory {
            return Err(LoadError::threads());
        }
        self.core_kind()
    }

    fn core_kind(&self) -> Result<Kind, LoadError> {
        let initialize = self.core_function("_initialize");
        let has_values =
            |signature: &Signature| signature.params.len() + signature.results.len() > 0;
        if initialize.is_some_and(has_values) {
            return Err(LoadError::NoEntry {
                reason: "its export `_initialize` has parameters or results".to_owned(),
                hint: PROGRAM_ADVICE,
            });
        }
        let main = ["", "_start"]
            .into_iter()
            .find_map(|name| Some((name, self.core_function(name)?)));
        match main {
            Some((_, signature)) if signature.params.is_empty() => Ok(Kind::CoreCommand),
            Some((name, _)) => Err(LoadError::NoEntry {
                reason: format!("its export `{name}` has parameters, and a step passes none"),
                hint: "export a function without parameters; it reads arguments with `args_get`",
            }),
            None if self.runs_when_instantiated() => Ok(Kind::CoreCommand),
            None => Err(self.no_core_entry()),
        }
    }

    /// Whether the start function or `_initialize` is the program: no other function is exported,
    /// and the module can do something because it imports functions.
    fn runs_when_instantiated(&self) -> bool {
        let is_function = |export: &&Export| matches!(export.kind, ExportKind::CoreFunction(_));
        let mut functions = self.exports.iter().filter(is_function);
        let has_initialize = self.core_function("_initialize").is_some();
        functions.all(|export| export.name == "_initialize")
            && (self.has_start_function || has_initialize)
            && self.imports_functions()
    }

    /// The signature of an exported core function.
    fn core_function(&self, name: &str) -> Option<&Signature> {
        self.exports.iter().find_map(|export| match &export.kind {
            ExportKind::CoreFunction(signature) if export.name == name => Some(signature),
            _ => None,
        })
    }

    fn imports_functions(&self) -> bool {
        let mut imports = self.imports.iter();
        imports.any(|import| import.kind == ImportKind::Function)
    }

    /// The error for an object file or a shared library, which a linker has to link first.
    fn unfinished_file(&self) -> Option<LoadError> {
        let has = |name: &str| self.custom_sections.iter().any(|section| section == name);
        let no_entry = |reason: &str, hint| {
            Some(LoadError::NoEntry {
                reason: reason.to_owned(),
                hint,
            })
        };
        if has("linking") {
            no_entry(
                "it is an object file, which is not linked yet",
                "link it into a program, such as with `clang --target=wasm32-wasip1`",
            )
        } else if has("dylink.0") || has("dylink") {
            no_entry(
                "it is a shared library",
                "link a program, without `-shared` and without `-sSIDE_MODULE`",
            )
        } else {
            None
        }
    }

    /// Refuses too many imports, and imports that are not functions. The host offers no memories,
    /// and a missing memory cannot trap when it is used.
    fn refuse_imports(&self) -> Result<(), LoadError> {
        if self.imported_items > MAX_IMPORTS {
            return Err(LoadError::Import {
                import: format!("more than {MAX_IMPORTS} functions"),
                hint: Origin::Unknown.advice(),
            });
        }
        for import in &self.imports {
            let what = match import.kind {
                ImportKind::Function | ImportKind::Interface(_) => continue,
                ImportKind::SharedMemory => return Err(LoadError::threads()),
                ImportKind::Other(what) => what,
            };
            let name = clipped(&import.name);
            let (name, origin) = if self.component {
                let origin = Origin::of_interface(&import.name);
                (format!("the {what} `{name}`"), origin)
            } else {
                let module = clipped(&import.module);
                let origin = self.toolchain();
                let origin =
                    origin.unwrap_or_else(|| Origin::of_core(&import.module, &import.name));
                (format!("the {what} `{name}` from `{module}`"), origin)
            };
            return Err(LoadError::Import {
                import: name,
                hint: origin.advice(),
            });
        }
        Ok(())
    }

    /// The toolchain that built a core module for another host.
    fn toolchain(&self) -> Option<Origin> {
        let sections = self.custom_sections.iter();
        let of_sections = sections
            .filter(|name| *name == "__wasm_bindgen_unstable")
            .map(|_| Origin::WasmBindgen);
        let of_imports = self
            .imports
            .iter()
            .map(|import| Origin::of_core(&import.module, &import.name));
        let of_exports = self.exports.iter().filter_map(|export| {
            let mut known = EXPORTS_OF_TOOLCHAINS.iter();
            known.find_map(|(start, origin)| export.name.starts_with(start).then_some(*origin))
        });
        of_sections
            .chain(of_imports)
            .chain(of_exports)
            .find(|origin| origin.description().is_some())
    }

    fn no_core_entry(&self) -> LoadError {
        let exports = listed(self.exports.iter().map(|export| export.name.as_str()));
        let toolchain = self.toolchain();
        let described = toolchain.and_then(|origin| Some((origin, origin.description()?)));
        let (description, hint) = match described {
            Some((origin, description)) => (format!("; it {description}"), origin.advice()),
            None if self.core_function("_initialize").is_some() => (
                "; it is a reactor, which waits for calls of its functions".to_owned(),
                "build a program with a `main` function: no `cdylib` in Rust, no \
                 `-mexec-model=reactor` in C, no `-buildmode=c-shared` in Go",
            ),
            None if self.exports.is_empty() => (String::new(), PROGRAM_ADVICE),
            None => ("; it is a library".to_owned(), PROGRAM_ADVICE),
        };
        LoadError::NoEntry {
            reason: format!("it exports {exports}{description}"),
            hint,
        }
    }

    fn component_kind(&self) -> Result<Kind, LoadError> {
        let exports_run = |version: &str| {
            let mut exports = self.exports.iter();
            exports.any(|export| is_run_of(&export.name, version))
        };
        let is_step = |export: &Export| {
            export.name == "run" && matches!(export.kind, ExportKind::ComponentFunction)
        };
        if self.exports.iter().any(is_step) {
            Ok(Kind::Step)
        } else if exports_run("0.3.") {
            Ok(Kind::CommandP3)
        } else if exports_run("0.2.") {
            Ok(Kind::Command)
        } else {
            Err(self.no_component_entry())
        }
    }

    fn no_component_entry(&self) -> LoadError {
        let names = || self.exports.iter().map(|export| export.name.as_str());
        let exported = |start: &str| names().find(|name| name.starts_with(start));
        let handler = HANDLERS.iter().find_map(|handler| exported(handler));
        let foreign = names()
            .map(Origin::of_interface)
            .find(|origin| origin.description().is_some());
        let (reason, hint) = if let Some(run) = exported("wasi:cli/run") {
            (
                format!(
                    "it exports `{}`, which is not a release of WASI",
                    clipped(run)
                ),
                Origin::Draft.advice(),
            )
        } else if let Some(handler) = handler {
            (
                format!("it only answers HTTP requests (`{}`)", clipped(handler)),
                "build a command, which exports `wasi:cli/run`: for example, a Rust program with \
                 `main` for `wasm32-wasip2`",
            )
        } else if let Some((origin, description)) =
            foreign.and_then(|origin| Some((origin, origin.description()?)))
        {
            (
                format!("it exports {}; it {description}", listed(names())),
                origin.advice(),
            )
        } else {
            (
                format!("it exports {}", listed(names())),
                "a step needs `wasi:cli/run`, or the function `run` of the step world; \
                 compose a library with a command (`wac plug`)",
            )
        };
        LoadError::NoEntry { reason, hint }
    }
}
