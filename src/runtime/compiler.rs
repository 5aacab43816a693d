//! Makes a [`CompiledModule`] from bytes.
//!
//! There are three ways, from the fastest to the slowest:
//!
//! 1. [`Compiler::cached`] returns a module from the cache in memory.
//! 2. [`Compiler::load`] maps machine code from the code directory, in milliseconds.
//! 3. [`Compiler::compile`] compiles the bytes in a worker process, in seconds for large modules.
//!
//! The caller tries them in this order. Modules are identified by the digest of their bytes.
//!
//! The compiler remembers for ten minutes that a module cannot be compiled (negative cache). So the
//! next step with this module fails at once. The first attempt to compile a module may have less
//! memory than the limit. If a lack of memory may be the cause of its failure, a second attempt has
//! the whole limit. Only the end of the last attempt is remembered:
//!
//! | end of the last attempt | remembered for steps with |
//! |---|---|
//! | the module is not valid, this executor cannot run the module, or the compiler's stack overflowed | any limits |
//! | memory limit | at most this memory limit |
//! | the machine code is too large to be kept in memory | any limits, if their code may only be kept in memory |
//! | the compiler reported an error for a valid module | at most this memory limit |
//! | the compiler crashed in another way: a panic, `SIGSEGV`, `SIGABRT`, `SIGBUS`, `SIGFPE`, `SIGILL`, `SIGTRAP` | at most this memory limit |
//! | time limit; the attempts used at least a quarter of it as processor time | at most this time limit |
//! | time limit; they used less processor time, because the machine was busy | not remembered |
//! | another signal, for example `SIGKILL` when the container has too little memory | not remembered |
//! | the module could not be read, the worker did not start, or its code could not be stored or loaded | not remembered |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::code::{CodeDirectory, CodeFile, NewCode};
use super::compile_error::{CompileError, CompileLimit};
use super::engine::Engines;
use super::load_error::LoadError;
use super::metadata;
use super::module::CompiledModule;
use super::module_source::ModuleSource;
use super::retain::Retain;
use super::worker::{Classes, Failure, Request, WorkerResources, Workers};
use crate::step::CompileLimits;

/// Modules whose code is in the code directory may use one part in this many of the compile
/// workers' memory. The executor can load such a module again in milliseconds.
const LOADED_PART: u64 = 16;
/// The most memory of these modules, in bytes. Without it, one hostile module would keep hundreds
/// of megabytes on a large machine.
const MAX_LOADED: u64 = 40 << 20;
/// Modules whose code is only in memory may use one part in this many of the compile workers'
/// memory. If the cache removes such a module, the module must be compiled again.
const IN_MEMORY_PART: u64 = 4;
/// Smallest memory of a module in a cache, in bytes.
const MIN_CACHED: u64 = 32 << 10;
/// Maximum number of modules in a cache. Each one has a mapping and an open file.
const MAX_CACHED: u64 = 1024;
/// Maximum number of bytes of mapped code that the cache counts for one module. The kernel can drop
/// the pages of a file, but the pages of many small modules usually stay in memory.
const RESIDENT_CODE: u64 = 64 << 10;
/// The compiler remembers for this time that a module cannot be compiled.
const REMEMBER_FAILURE: Duration = Duration::from_mins(10);
/// Maximum number of modules in the negative cache.
const REMEMBERED_FAILURES: u64 = 10_000;

/// The settings of a [`Compiler`].
#[derive(Clone, Debug)]
pub struct CompilerSettings {
    /// Maximum number of running steps.
    pub steps: u32,
    /// Directory for compiled code. `None` to keep compiled code only in memory.
    pub code_directory: Option<PathBuf>,
    /// The file of this program, which is started as a compile worker.
    pub program: PathBuf,
    /// Maximum memory of all compile workers together, in bytes.
    pub memory: u64,
}

/// How a module is compiled.
#[derive(Clone, Debug)]
pub struct CompileRequest {
    /// Classes of the module: the templates whose steps wait for it. Compile workers are shared
    /// fairly between classes.
    pub classes: Classes,
    /// Limits of the compile worker.
    pub limits: CompileLimits,
    /// Where the compiled code may be stored.
    pub retain: Retain,
}

/// A module in the cache.
#[derive(Clone, Debug)]
struct Cached {
    module: Arc<CompiledModule>,
    /// The memory that the module needs while no step runs it, in bytes.
    bytes: u32,
}

/// The metadata of a module needs too much memory when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataTooLarge {
    /// The memory, in bytes.
    pub bytes: u64,
}

/// Compiles modules and caches the results.
#[derive(Debug)]
pub struct Compiler {
    engines: Arc<Engines>,
    workers: Workers,
    /// The modules whose code is in the code directory, by digest.
    loaded: Cache<Arc<str>, Cached>,
    /// The modules whose code is only in memory, by digest.
    in_memory: Cache<Arc<str>, Cached>,
    /// Why modules were not compiled, by digest.
    failures: Cache<Arc<str>, CompileError>,
    disk: Option<Arc<CodeDirectory>>,
}

impl Compiler {
    /// Makes the engines. If the code directory cannot be used, or is not private to this user, a
    /// warning is logged and code is cached only in memory.
    pub fn new(settings: CompilerSettings) -> wasmtime::Result<Self> {
        let engines = Arc::new(Engines::new(settings.steps)?);
        let directory = settings.code_directory;
        let disk = directory.and_then(|directory| open_directory(&directory, &engines));
        let in_memory_bytes = settings.memory / IN_MEMORY_PART;
        let resources = WorkerResources {
            memory: settings.memory,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            code_in_memory: in_memory_bytes,
        };
        // The default policy of moka prefers entries that are used often. With that policy, many
        // small modules would keep a large one out, and many failures a new one.
        let cache = |bytes: u64| {
            let smallest = (bytes / MAX_CACHED).max(MIN_CACHED);
            let smallest = u32::try_from(smallest).unwrap_or(u32::MAX);
            Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .weigher(move |_, cached: &Cached| cached.bytes.max(smallest))
                .max_capacity(bytes)
                .build()
        };
        let failures = Cache::builder()
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(REMEMBER_FAILURE)
            .max_capacity(REMEMBERED_FAILURES)
            .build();
        Ok(Self {
            engines,
            workers: Workers::new(settings.program, resources),
            loaded: cache((settings.memory / LOADED_PART).min(MAX_LOADED)),
            in_memory: cache(in_memory_bytes),
            failures,
            disk: disk.map(Arc::new),
        })
    }

    /// The engines that run the modules of this compiler.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// The module, if it is in the memory cache. Does not block.
    pub fn cached(&self, digest: &str) -> Option<Arc<CompiledModule>> {
        let found = self.loaded.get(digest);
        let found = found.or_else(|| self.in_memory.get(digest));
        found.map(|cached| cached.module)
    }

    /// Where the code of a module is stored, if it may be stored as `retain` says.
    pub fn effective_retain(&self, retain: Retain) -> Retain {
        match &self.disk {
            Some(_) => retain,
            None => Retain::InMemory,
        }
    }

    /// Whether the code of a module is in the code directory. The code may be damaged. Blocks for
    /// microseconds.
    pub fn is_stored(&self, digest: &str) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.has(digest))
    }

    /// The module, if its code is in the code directory. Blocks for milliseconds.
    ///
    /// # Errors
    ///
    /// The metadata of the module needs more than `most` bytes of memory. It is not loaded.
    pub fn load(
        &self,
        digest: &str,
        most: u64,
    ) -> Result<Option<Arc<CompiledModule>>, MetadataTooLarge> {
        if let Some(module) = self.cached(digest) {
            return Ok(Some(module));
        }
        let stored = self.disk.as_ref().and_then(|disk| disk.open_stored(digest));
        let Some(stored) = stored else {
            return Ok(None);
        };
        let loaded = match metadata::heap_bytes_of(stored.file()) {
            Ok(bytes) if bytes > most => return Err(MetadataTooLarge { bytes }),
            Ok(_) => CompiledModule::load(&self.engines, |engine| stored.map(engine)),
            Err(error) => Err(error),
        };
        Ok(match loaded {
            Ok(module) => Some(self.insert(digest, module)),
            Err(error) => {
                tracing::warn!(
                    module = digest,
                    %error,
                    "the compiled code on disk cannot be used; the module is compiled again"
                );
                None
            }
        })
    }

    /// The limits that apply to a module of this many bytes. See `limits.compile.memory`.
    pub fn effective(&self, limits: CompileLimits, module_bytes: u64) -> CompileLimits {
        self.workers.effective(limits, module_bytes)
    }

    /// The remembered reason why the module cannot be compiled within these effective limits.
    fn failure(&self, digest: &str, limits: CompileLimits, retain: Retain) -> Option<CompileError> {
        let failed = self.failures.get(digest);
        failed.filter(|error| error.repeats_with(limits, retain))
    }

    /// Compiles the module in a worker process, which uses at most eight processors. The worker is
    /// killed when the future is dropped.
    pub async fn compile(
        self: &Arc<Self>,
        digest: &str,
        module: &dyn ModuleSource,
        request: CompileRequest,
    ) -> Result<Arc<CompiledModule>, CompileError> {
        let limits = self.effective(request.limits, module.size());
        let capped = request.limits.memory > self.workers.most_memory(module.size());
        let retain = request.retain;
        if let Some(error) = self.failure(digest, limits, retain) {
            return Err(match error {
                // A module that is not valid is never valid.
                CompileError::Refused(_) => error,
                error => CompileError::Remembered(Box::new(error)),
            });
        }
        let request = CompileRequest { limits, ..request };
        let result = self.compile_anew(digest, module, request, capped).await;
        if let Err(error) = &result
            && error.repeats_with(limits, retain)
        {
            self.failures.insert(digest.into(), error.clone());
        }
        result
    }

    async fn compile_anew(
        self: &Arc<Self>,
        digest: &str,
        module: &dyn ModuleSource,
        request: CompileRequest,
        capped: bool,
    ) -> Result<Arc<CompiledModule>, CompileError> {
        let limits = request.limits;
        let disk = match request.retain {
            Retain::OnDisk => self.disk.clone(),
            Retain::InMemory => None,
        };
        let request = Request {
            classes: request.classes,
            module,
            limits,
            directory: disk.as_ref(),
        };
        let compiled = self.workers.compile(&request).await;
        let code = compiled.map_err(|failure| compile_error(failure, limits, capped))?;
        let compiler = Arc::clone(self);
        let digest = digest.to_owned();
        let span = tracing::Span::current();
        let load = move || span.in_scope(|| compiler.store_and_load(&digest, code));
        let loaded = tokio::task::spawn_blocking(load).await;
        loaded.map_err(|error| CompileError::Worker(error.to_string()))?
    }

    /// Stores new code in the code directory, and loads it. Blocks for milliseconds.
    fn store_and_load(
        &self,
        digest: &str,
        code: NewCode,
    ) -> Result<Arc<CompiledModule>, CompileError> {
        let file = CodeFile::new(&code).map_err(|error| CompileError::Worker(error.to_string()))?;
        let mut is_stored = false;
        if let (Some(disk), NewCode::OnDisk(code)) = (&self.disk, code) {
            match disk.publish(digest, code) {
                Ok(()) => is_stored = true,
                Err(error) => {
                    tracing::warn!(%error, "cannot store compiled code in the code directory");
                }
            }
        }
        let mut module = match CompiledModule::load(&self.engines, |engine| file.map(engine)) {
            // For example, the file system is mounted with `noexec`.
            Err(LoadError::Engine(error)) => {
                tracing::warn!(
                    error,
                    "the compiled code cannot be mapped; it is read into memory"
                );
                is_stored = false;
                CompiledModule::load(&self.engines, |engine| file.read(engine))?
            }
            loaded => loaded?,
        };
        if !is_stored {
            module.code_in_memory = module.code_bytes() as u64;
            let most = self.in_memory_bytes();
            if module.bytes_in_memory() > most {
                return Err(CompileError::CodeTooLarge { most });
            }
        }
        Ok(self.insert(digest, module))
    }

    /// The memory that the modules whose code is only in memory may use, in bytes.
    fn in_memory_bytes(&self) -> u64 {
        self.in_memory.policy().max_capacity().unwrap_or(u64::MAX)
    }

    fn insert(&self, digest: &str, module: CompiledModule) -> Arc<CompiledModule> {
        let (cache, bytes) = match module.code_in_memory {
            0 => {
                let code = (module.code_bytes() as u64).min(RESIDENT_CODE);
                (&self.loaded, module.heap_bytes.saturating_add(code))
            }
            _ => (&self.in_memory, module.bytes_in_memory()),
        };
        let module = Arc::new(module);
        // A module that is larger than the cache is loaded again by the next step.
        if cache
            .policy()
            .max_capacity()
            .is_some_and(|most| bytes > most)
        {
            return module;
        }
        let cached = Cached {
            module: Arc::clone(&module),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        cache.insert(digest.into(), cached);
        // Without this call, the cache would remove other modules only when it is used again.
        cache.run_pending_tasks();
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

/// `capped` says whether the memory limit is as high as the memory of all workers allows.
fn compile_error(failure: Failure, limits: CompileLimits, capped: bool) -> CompileError {
    let reached = match failure {
        Failure::Refused(refusal) => return refusal.into(),
        Failure::Compiler(refusal) => {
            let memory = limits.memory;
            return CompileError::Compiler { refusal, memory };
        }
        Failure::Crashed(how) => {
            let memory = limits.memory;
            return CompileError::Crashed { how, memory };
        }
        Failure::Starved { processor } => {
            let time = limits.time;
            return CompileError::Starved { time, processor };
        }
        Failure::Time => CompileLimit::Time,
        Failure::Memory => CompileLimit::Memory,
        Failure::CodeTooLarge { most } => return CompileError::CodeTooLarge { most },
        Failure::SlowRead => return CompileError::SlowRead(limits.time),
        Failure::Unreadable(error) => return CompileError::Unreadable(error),
        Failure::Ended(how) => return CompileError::Worker(how),
        Failure::Io(error) => return CompileError::Worker(error.to_string()),
    };
    CompileError::Limit {
        reached,
        limits,
        capped,
    }
}
