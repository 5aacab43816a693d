//! From a reference to a module that is ready to run.
//!
//! A compiled module is taken from memory, or else from disk. If neither memory nor disk has the
//! module, the module is fetched and compiled:
//!
//! - **Fetch:** steps with the same reference, content and requester share one download. The bytes
//!   are then dropped.
//! - **Compile:** steps with the same module share one compilation, if its limits are not lower
//!   than their own. The bytes are read again when a compile worker is free.
//!
//! If no step waits for a fetch or a compilation any more, it is cancelled.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use net::SingleFlight;
use sources::{Digest, FetchedModule, Package, Reference, Request, Requester, Resolved, Sources};
use tracing::Span;

use super::preparations::{Preparations, Progress, Reporter, Waited};
use super::prepared::{Fetched, ParkedModule, PreparedModule, Records, Uncompiled};
use crate::runtime::{
    Class, CompileError, CompileLimit, CompileRequest, CompiledModule, Compiler, FREE_MODULE_BYTES,
    MetadataTooLarge, ModuleSource, ReadError, Retain,
};
use crate::step::{CompileLimits, Stage, StepError};
use crate::text::units::ByteSize;

/// The class and the limits with which a step compiles its module.
#[derive(Clone, Copy, Debug)]
pub(super) struct CompileSettings {
    /// Class of the step.
    pub(super) class: Class,
    /// Memory limit of the step, in bytes.
    pub(super) memory: u64,
    pub(super) limits: CompileLimits,
}

/// Steps with equal keys share one fetch. A failure of one origin must not fail a step whose
/// reference has another origin.
type FetchKey = (Reference, Digest, Requester);

/// The result of a fetch, which several steps share.
#[derive(Clone, Debug)]
enum SharedFetch {
    /// Compiled code is on disk.
    Compiled {
        package: Option<Arc<Package>>,
    },
    Stored {
        package: Arc<Package>,
        size: u64,
    },
}

/// A step joins a compilation with this key if the digest is the same, and the step's limits are
/// not higher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CompileKey {
    digest: Digest,
    limits: CompileLimits,
    retain: Retain,
}

impl CompileKey {
    /// Whether the result of this compilation is one for a step that would use the key `other`.
    fn serves(&self, other: &Self) -> bool {
        self.digest == other.digest
            && self.retain == other.retain
            && self.limits.time >= other.limits.time
            && self.limits.memory >= other.limits.memory
    }
}

/// The result of a compilation, which several steps share.
type Compiled = Result<Arc<CompiledModule>, CompileFailure>;

#[derive(Clone, Debug)]
struct CompileFailure {
    error: CompileError,
    /// The module, as fetched by the step that started the compilation.
    of: Arc<Uncompiled>,
}

/// The modules that steps run.
#[derive(Debug)]
pub(super) struct Modules {
    preparer: Preparer,
    fetching: SingleFlight<FetchKey, Result<SharedFetch, StepError>>,
    compiling: Preparations<CompileKey, Compiled>,
}

/// The services that a preparation uses. Cheap to clone.
#[derive(Clone, Debug)]
struct Preparer {
    sources: Sources,
    compiler: Arc<Compiler>,
}

impl Modules {
    pub(super) fn new(sources: Sources, compiler: Arc<Compiler>) -> Self {
        Self {
            preparer: Preparer { sources, compiler },
            fetching: SingleFlight::default(),
            compiling: Preparations::default(),
        }
    }

    /// Resolves the reference of a request to a digest.
    pub(super) async fn resolve(&self, request: &Request) -> Result<Arc<Resolved>, StepError> {
        self.preparer
            .sources
            .resolve(request)
            .await
            .map_err(|error| StepError::from_source(Stage::Resolve, &error))
    }

    /// Fetches the module, or finds it compiled in memory or on disk.
    pub(super) async fn fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
    ) -> Result<Fetched, StepError> {
        if self.preparer.sources.may_use(resolved, requester).await
            && let Some(module) = self.preparer.find_in_memory(resolved).await
        {
            return Ok(Fetched::Ready(module.parked()));
        }
        // One artifact can contain several modules, so the key contains the package key.
        let reference = resolved.reference.clone();
        let key = (reference, resolved.package_key(), requester.clone());
        let fetching = self.fetching.join(key, || {
            let preparer = self.preparer.clone();
            let resolved = Arc::clone(resolved);
            let requester = requester.clone();
            async move { preparer.find_or_fetch(&resolved, &requester).await }
        });
        let fetched = fetching.await;
        let resolved = Arc::clone(resolved);
        match fetched.unwrap_or_else(|| Err(panicked(Stage::Fetch)))? {
            SharedFetch::Compiled { package } => {
                Ok(Fetched::Ready(Records { package, resolved }.parked()))
            }
            SharedFetch::Stored { package, size } => Ok(Fetched::Uncompiled(Uncompiled {
                package,
                size,
                resolved,
                requester: requester.clone(),
            })),
        }
    }

    /// Waits until the module is compiled.
    pub(super) async fn compile(
        &self,
        fetched: Fetched,
        settings: CompileSettings,
    ) -> Result<ParkedModule, StepError> {
        let uncompiled = match fetched {
            Fetched::Ready(module) => return Ok(module),
            Fetched::Uncompiled(uncompiled) => Arc::new(uncompiled),
        };
        let name = uncompiled.package.module.to_string();
        let records = uncompiled.records();
        if self.preparer.is_compiled(&name).await? {
            // Another step has compiled the module since this step fetched it.
            return Ok(records.parked());
        }
        let module = self.compile_now(&uncompiled, settings).await?;
        Ok(PreparedModule { module, records }.parked())
    }

    /// Takes the module of a step that has its slot: from the cache, or from the code directory. If
    /// its code was only in memory, and is gone, the module is compiled again, in the slot.
    pub(super) async fn take(
        &self,
        parked: ParkedModule,
        requester: &Requester,
        settings: CompileSettings,
    ) -> Result<PreparedModule, StepError> {
        let records = parked.records;
        let name = records.digest().to_string();
        if let Some(module) = self.preparer.load(name, settings).await? {
            return Ok(PreparedModule { module, records });
        }
        let fetched = self.preparer.fetch(&records.resolved, requester).await?;
        let uncompiled = Arc::new(Uncompiled {
            size: fetched.bytes.len() as u64,
            package: fetched.package,
            resolved: records.resolved,
            requester: requester.clone(),
        });
        let records = uncompiled.records();
        let module = self.compile_now(&uncompiled, settings).await?;
        Ok(PreparedModule { module, records })
    }

    /// Compiles the module, or joins a compilation of it.
    async fn compile_now(
        &self,
        uncompiled: &Arc<Uncompiled>,
        settings: CompileSettings,
    ) -> Result<Arc<CompiledModule>, StepError> {
        let reference = uncompiled.resolved.reference.redacted();
        let compiler = &self.preparer.compiler;
        let limits = compiler.effective(settings.limits, uncompiled.size);
        let name = uncompiled.package.module.to_string();
        loop {
            if let Some(module) = compiler.cached(&name) {
                return Ok(module);
            }
            let key = CompileKey {
                digest: uncompiled.package.module.clone(),
                limits,
                retain: compiler.effective_retain(uncompiled.retain()),
            };
            let serves = |known: &CompileKey| known.serves(&key);
            let own = key.clone();
            let compiling = self
                .compiling
                .join(own, serves, settings.class, |reporter| {
                    let preparer = self.preparer.clone();
                    let uncompiled = Arc::clone(uncompiled);
                    async move { preparer.compile(uncompiled, settings, reporter).await }
                });
            let is_own = compiling.is_own;
            let error = match compiling.ended(limits.time).await {
                Waited::Ended(Ok(module)) => return Ok(module),
                // The limits or the origin of another step caused this failure. A compilation with
                // the limits and the origin of this step can succeed.
                Waited::Ended(Err(failed)) if !is_own && !failed.applies_to(uncompiled, limits) => {
                    continue;
                }
                Waited::Ended(Err(failed)) => failed.error,
                Waited::TimedOut => CompileError::Limit {
                    reached: CompileLimit::Time,
                    limits,
                    capped: false,
                },
                Waited::Panicked => return Err(panicked(Stage::Compile)),
            };
            return Err(compile_error(&reference, error));
        }
    }
}

impl CompileFailure {
    /// Whether a step with this module and these limits fails in the same way.
    fn applies_to(&self, uncompiled: &Uncompiled, limits: CompileLimits) -> bool {
        match &self.error {
            CompileError::Starved { time, .. } => limits.time <= *time,
            // The limits of the other step have no influence on these errors. If each waiting step
            // tried again, the last one would wait for all attempts.
            CompileError::Load(_) | CompileError::Worker(_) | CompileError::CodeTooLarge { .. } => {
                true
            }
            CompileError::Unreadable(_) | CompileError::SlowRead(_) => {
                self.of.requester == uncompiled.requester
                    && self.of.resolved.reference == uncompiled.resolved.reference
            }
            error => error.repeats_with(limits, uncompiled.retain()),
        }
    }
}

impl Preparer {
    async fn find_in_memory(&self, resolved: &Arc<Resolved>) -> Option<PreparedModule> {
        let prepared = |module, package| PreparedModule {
            module,
            records: Records {
                package,
                resolved: Arc::clone(resolved),
            },
        };
        // Most references name the module itself.
        if let Some(digest) = &resolved.module
            && let Some(module) = self.compiler.cached(&digest.to_string())
        {
            return Some(prepared(module, None));
        }
        let package = self.sources.package(resolved).await?;
        let module = self.compiler.cached(&package.module.to_string())?;
        Some(prepared(module, Some(package)))
    }

    async fn find_or_fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
    ) -> Result<SharedFetch, StepError> {
        if self.sources.may_use(resolved, requester).await
            && let Some(found) = self.find_on_disk(resolved).await?
        {
            return Ok(found);
        }
        let fetched = self.fetch(resolved, requester).await?;
        // The bytes are dropped. A step may wait for a compile worker for a long time.
        Ok(SharedFetch::Stored {
            package: fetched.package,
            size: fetched.bytes.len() as u64,
        })
    }

    async fn fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
    ) -> Result<FetchedModule, StepError> {
        let fetched = self.sources.fetch(resolved, requester).await;
        fetched.map_err(|error| StepError::from_source(Stage::Fetch, &error))
    }

    /// Finds compiled code on disk. It is loaded when the step has a slot: its metadata can be
    /// large.
    async fn find_on_disk(&self, resolved: &Resolved) -> Result<Option<SharedFetch>, StepError> {
        let package = self.sources.package(resolved).await;
        let digest = package
            .as_ref()
            .map(|package| &package.module)
            .or(resolved.module.as_ref());
        let Some(name) = digest.map(ToString::to_string) else {
            return Ok(None);
        };
        let is_compiled = self.is_compiled(&name).await?;
        Ok(is_compiled.then_some(SharedFetch::Compiled { package }))
    }

    /// Whether the compiled module is in memory or on disk. `name` is the digest of the module.
    async fn is_compiled(&self, name: &str) -> Result<bool, StepError> {
        if self.compiler.cached(name).is_some() {
            return Ok(true);
        }
        let compiler = Arc::clone(&self.compiler);
        let name = name.to_owned();
        blocking(Stage::Fetch, move || Ok(compiler.is_stored(&name))).await
    }

    /// Loads compiled code from disk. `None` if the cache on disk does not hold it.
    async fn load(
        &self,
        name: String,
        settings: CompileSettings,
    ) -> Result<Option<Arc<CompiledModule>>, StepError> {
        let compiler = Arc::clone(&self.compiler);
        let most = settings.memory.saturating_add(FREE_MODULE_BYTES);
        blocking(Stage::Fetch, move || {
            let loaded = compiler.load(&name, most).map_err(|MetadataTooLarge { bytes }| {
                let limit = ByteSize(settings.memory);
                let needed = ByteSize(bytes.div_ceil(1 << 20) << 20);
                let message = format!(
                    "memory limit of {limit} exceeded: the metadata of the module needs {needed}"
                );
                StepError::failed(Stage::Fetch, message)
            })?;
            if loaded.is_some() {
                tracing::info!(module = name, "loaded compiled code");
            }
            Ok(loaded)
        })
        .await
    }

    /// Compiles the module, and reports the result, unless no step waits any more.
    async fn compile(
        &self,
        uncompiled: Arc<Uncompiled>,
        settings: CompileSettings,
        reporter: Reporter<CompileKey, Compiled>,
    ) {
        let started = Instant::now();
        let name = uncompiled.package.module.to_string();
        let request = CompileRequest {
            classes: reporter.classes(),
            limits: settings.limits,
            retain: uncompiled.retain(),
        };
        let source = StoredModule {
            sources: &self.sources,
            uncompiled: &uncompiled,
            settings,
            reporter: &reporter,
        };
        let compiled = tokio::select! {
            compiled = self.compiler.compile(&name, &source, request) => compiled,
            // This branch drops the future of the compiler, which kills the worker.
            () = reporter.abandoned() => return,
        };
        if let Ok(module) = &compiled {
            tracing::info!(
                module = name,
                milliseconds = started.elapsed().as_millis(),
                code_bytes = module.code_bytes(),
                pooled = module.pooled(),
                kind = ?module.kind(),
                "compiled"
            );
        }
        let of = Arc::clone(&uncompiled);
        reporter.end(compiled.map_err(|error| CompileFailure { error, of }));
    }
}

/// Reads the bytes of a module from the store when a compile worker is free.
struct StoredModule<'a> {
    sources: &'a Sources,
    uncompiled: &'a Uncompiled,
    settings: CompileSettings,
    reporter: &'a Reporter<CompileKey, Compiled>,
}

#[async_trait]
impl ModuleSource for StoredModule<'_> {
    fn size(&self) -> u64 {
        self.uncompiled.size
    }

    async fn read(&self) -> Result<Bytes, ReadError> {
        let Uncompiled {
            package,
            resolved,
            requester,
            ..
        } = self.uncompiled;
        let fetched = self.sources.fetch(resolved, requester).await;
        let fetched = fetched.map_err(|error| -> ReadError { Arc::new(error) })?;
        if fetched.package.module != package.module {
            let message = "its bytes have changed since the module was fetched";
            return Err(Arc::new(std::io::Error::other(message)));
        }
        let limit = self.settings.limits.time;
        self.reporter.report(Progress::Compiling(limit));
        Ok(fetched.bytes)
    }

    fn queued(&self) {
        self.reporter.report(Progress::Queued);
    }
}

fn compile_error(reference: &str, error: CompileError) -> StepError {
    if let CompileError::Unreadable(cause) = &error
        && let Some(error) = cause.downcast_ref::<sources::Error>()
    {
        return StepError::from_source(Stage::Compile, error);
    }
    let message = format!("`{reference}`: {error}");
    let failure = match error.is_limit() {
        true => StepError::failed(Stage::Compile, message),
        false => StepError::error(Stage::Compile, message),
    };
    failure.with_hint(error.hint()).caused_by(error)
}

async fn blocking<T: Send + 'static>(
    stage: Stage,
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let span = Span::current();
    let work = move || span.in_scope(work);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(panicked(stage).caused_by(error)))
}

/// The error for a preparation whose task panicked.
fn panicked(stage: Stage) -> StepError {
    StepError::error(
        stage,
        "preparing the module panicked; this is a defect of this program",
    )
}
