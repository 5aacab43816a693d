//! From bytes to a [`Module`]: in memory, on disk, or by compiling.

use std::path::Path;
use std::sync::Arc;

use moka::sync::Cache;

use super::code::{CodeDirectory, Fresh};
use super::engine::Engines;
use super::inspect::{NotWasm, inspect};
use super::module::{LoadError, Module};

/// Machine code kept in memory, in bytes. What is kept on disk is mapped, and costs memory only where it is used.
const MEMORY_BYTES: u64 = 1 << 30;

/// Why bytes did not become a module.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// They are something else.
    #[error(transparent)]
    NotWasm(#[from] NotWasm),
    /// They begin like WebAssembly and are not valid.
    #[error("the module is not valid WebAssembly: {0}")]
    Invalid(String),
    /// It cannot be run here.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Where compiled code may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// In memory, and on disk for the next process.
    OnDisk,
    /// In memory alone.
    InMemory,
}

/// Compiles modules and keeps what was compiled. Modules are named by the digest of their bytes.
#[derive(Debug)]
pub struct Compiler {
    engines: Arc<Engines>,
    memory: Cache<Arc<str>, Arc<Module>>,
    disk: Option<CodeDirectory>,
}

impl Compiler {
    /// A compiler for at most `steps` steps at once, which keeps code in `code_directory` if that is private to this user.
    pub fn new(steps: u32, code_directory: Option<&Path>) -> wasmtime::Result<Self> {
        let engines = Arc::new(Engines::new(steps)?);
        let disk = code_directory.and_then(|directory| match CodeDirectory::open(directory, &engines.pooled.engine) {
            Ok(disk) => Some(disk),
            Err(error) => {
                tracing::warn!(%error, "compiled code is not kept on disk: modules are compiled again after a restart");
                None
            }
        });
        let memory = Cache::builder()
            .weigher(|_, module: &Arc<Module>| {
                u32::try_from(module.code_bytes()).unwrap_or(u32::MAX)
            })
            .max_capacity(MEMORY_BYTES)
            .build();
        Ok(Self {
            engines,
            memory,
            disk,
        })
    }

    pub(super) fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The module, if it is in memory. Does not block.
    pub fn cached(&self, digest: &str) -> Option<Arc<Module>> {
        self.memory.get(digest)
    }

    /// The module, if its code is on disk. Blocks for milliseconds.
    pub fn load(&self, digest: &str) -> Option<Arc<Module>> {
        let kept = self.disk.as_ref()?.open_kept(digest)?;
        match Module::load(&self.engines, |engine| kept.load(engine)) {
            Ok(module) => Some(self.keep(digest, module)),
            Err(error) => {
                tracing::warn!(module = digest, %error, "kept code cannot be used; compiling again");
                None
            }
        }
    }

    /// Compiles the module. Blocks for up to seconds, and uses every processor.
    pub fn compile(
        &self,
        digest: &str,
        bytes: &[u8],
        retain: Retain,
    ) -> Result<Arc<Module>, CompileError> {
        // Cheap, and large modules take long to compile: a library is refused before.
        let inspection = inspect(bytes)?;
        if inspection.kind().is_none() {
            return Err(LoadError::no_entry(inspection.exports.into_iter()).into());
        }
        let component = inspection.component;
        let fresh = Fresh::compile(&self.engines.pooled.engine, bytes, component)
            .map_err(|error| CompileError::Invalid(format!("{error:#}")))?;
        let kept = self
            .disk
            .as_ref()
            .filter(|_| retain == Retain::OnDisk)
            .and_then(|disk| match disk.write(digest, &fresh) {
                Ok(()) => disk.open_kept(digest),
                Err(error) => {
                    tracing::warn!(%error, "compiled code could not be kept on disk");
                    None
                }
            });
        // Mapped from disk, code is shared and can be dropped from memory; loaded from bytes, it cannot.
        let mapped =
            kept.and_then(
                |kept| match Module::load(&self.engines, |engine| kept.load(engine)) {
                    // A file system that allows no execution, perhaps.
                    Err(LoadError::Engine(error)) => {
                        tracing::warn!(error, "kept code cannot be mapped; using it from memory");
                        None
                    }
                    loaded => Some(loaded),
                },
            );
        let module = mapped.unwrap_or_else(|| {
            Module::load(&self.engines, |engine| fresh.load(engine, component))
        })?;
        Ok(self.keep(digest, module))
    }

    fn keep(&self, digest: &str, module: Module) -> Arc<Module> {
        let module = Arc::new(module);
        self.memory.insert(digest.into(), Arc::clone(&module));
        module
    }
}
