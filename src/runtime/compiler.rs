//! Makes a [`CompiledModule`] from bytes.
//!
//! There are three ways, from the fastest to the slowest:
//!
//! 1. [`Compiler::cached`] returns a module from the cache in memory.
//! 2. [`Compiler::load`] maps machine code from the code directory, in milliseconds.
//! 3. [`Compiler::compile`] compiles the bytes, in seconds for large modules.
//!
//! The caller tries them in this order. Modules are identified by the digest of their bytes.

use std::path::Path;
use std::sync::Arc;

use moka::sync::Cache;

use super::code::{CodeDirectory, NewCode};
use super::compile_error::CompileError;
use super::engine::Engines;
use super::inspect::inspect;
use super::load_error::LoadError;
use super::module::CompiledModule;
use super::validate::validate;

/// Maximum size of the machine code of all modules in the memory cache, in bytes. Code from the
/// code directory is mapped, so only its used pages need memory.
const CACHE_BYTES: u64 = 1 << 30;

/// Where compiled code may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// In memory, and in the code directory for later processes.
    OnDisk,
    /// Only in memory.
    InMemory,
}

/// Compiles modules and caches the results.
#[derive(Debug)]
pub struct Compiler {
    engines: Arc<Engines>,
    cache: Cache<Arc<str>, Arc<CompiledModule>>,
    disk: Option<CodeDirectory>,
}

impl Compiler {
    /// A compiler with engines for at most `steps` running steps. If `code_directory` cannot be
    /// used, or is not private to this user, a warning is logged and code is cached only in memory.
    pub fn new(steps: u32, code_directory: Option<&Path>) -> wasmtime::Result<Self> {
        let engines = Arc::new(Engines::new(steps)?);
        let disk = code_directory.and_then(|directory| open_directory(directory, &engines));
        let cache = Cache::builder()
            .weigher(|_, module: &Arc<CompiledModule>| {
                u32::try_from(module.code_bytes()).unwrap_or(u32::MAX)
            })
            .max_capacity(CACHE_BYTES)
            .build();
        Ok(Self {
            engines,
            cache,
            disk,
        })
    }

    /// The engines that run the modules of this compiler.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The module, if it is in the memory cache. Does not block.
    pub fn cached(&self, digest: &str) -> Option<Arc<CompiledModule>> {
        self.cache.get(digest)
    }

    /// The module, if its code is in the code directory. Blocks for milliseconds.
    pub fn load(&self, digest: &str) -> Option<Arc<CompiledModule>> {
        let stored = self.disk.as_ref()?.open_stored(digest)?;
        match CompiledModule::load(&self.engines, |engine| stored.load(engine)) {
            Ok(module) => Some(self.insert(digest, module)),
            Err(error) => {
                tracing::warn!(
                    module = digest,
                    %error,
                    "the compiled code on disk cannot be used; the module is compiled again"
                );
                None
            }
        }
    }

    /// Compiles the module. Blocks for seconds if the module is large, and uses all processors.
    pub fn compile(
        &self,
        digest: &str,
        bytes: &[u8],
        retain: Retain,
    ) -> Result<Arc<CompiledModule>, CompileError> {
        // An inspection is fast. A module that cannot run is refused before it is compiled.
        let inspection = inspect(bytes)?;
        inspection.kind()?;
        let component = inspection.component;
        let code = match NewCode::compile(&self.engines.pooled.engine, bytes, component) {
            Ok(code) => code,
            Err(error) => {
                validate(bytes)?;
                return Err(CompileError::Compile(format!("{error:#}")));
            }
        };
        let mapped = match retain {
            Retain::OnDisk => self.store_and_map(digest, &code)?,
            Retain::InMemory => None,
        };
        let module = match mapped {
            Some(module) => module,
            None => CompiledModule::load(&self.engines, |engine| code.load(engine, component))?,
        };
        Ok(self.insert(digest, module))
    }

    /// Stores new code in the code directory and maps it from there. When memory is short, the
    /// kernel can drop mapped pages of a file. It cannot drop code that was loaded from bytes.
    ///
    /// Returns `None` if the code cannot be stored or mapped. The caller then loads it from bytes.
    fn store_and_map(
        &self,
        digest: &str,
        code: &NewCode,
    ) -> Result<Option<CompiledModule>, LoadError> {
        let Some(disk) = &self.disk else {
            return Ok(None);
        };
        if let Err(error) = disk.write(digest, code) {
            tracing::warn!(%error, "cannot store compiled code in the code directory");
            return Ok(None);
        }
        let Some(stored) = disk.open_stored(digest) else {
            return Ok(None);
        };
        match CompiledModule::load(&self.engines, |engine| stored.load(engine)) {
            Ok(module) => Ok(Some(module)),
            // For example, the file system is mounted with `noexec`.
            Err(LoadError::Engine(error)) => {
                tracing::warn!(
                    error,
                    "the compiled code on disk cannot be mapped; the code in memory is used"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn insert(&self, digest: &str, module: CompiledModule) -> Arc<CompiledModule> {
        let module = Arc::new(module);
        self.cache.insert(digest.into(), Arc::clone(&module));
        module
    }
}

/// The code directory. `None`, with a warning, if it cannot be used.
fn open_directory(directory: &Path, engines: &Engines) -> Option<CodeDirectory> {
    match CodeDirectory::open(directory, &engines.pooled.engine) {
        Ok(directory) => Some(directory),
        Err(error) => {
            tracing::warn!(
                directory = %directory.display(),
                %error,
                "cannot use the code directory; modules will be compiled again after a restart"
            );
            None
        }
    }
}
