//! From a reference to a module that is ready to run.
//!
//! A compiled module is taken from memory, or else from disk. If neither memory nor disk has the
//! module, a task fetches and compiles the module.

use std::sync::Arc;
use std::time::Instant;

use sources::{Defaults, Digest, FetchedModule, Package, Request, Requester, Resolved, Sources};
use tracing::Span;

use super::preparations::{Preparation, Preparations, Progress, Reporter};
use crate::runtime::{CompileError, CompiledModule, Compiler, Retain};
use crate::step::{CompileLimits, Stage, StepError};

/// A compiled module, with the records that contain its digest and its defaults.
#[derive(Clone, Debug)]
pub(super) struct PreparedModule {
    pub(super) module: Arc<CompiledModule>,
    /// The package of the module. `None` when `resolved` has the module's digest and defaults.
    package: Option<Arc<Package>>,
    resolved: Arc<Resolved>,
}

impl PreparedModule {
    /// Digest of the module's bytes.
    pub(super) fn digest(&self) -> &Digest {
        let known = self.package.as_ref().map(|package| &package.module);
        known
            .or(self.resolved.module.as_ref())
            .unwrap_or(&self.resolved.artifact)
    }

    /// Arguments and environment for templates that set none.
    pub(super) fn defaults(&self) -> &Defaults {
        self.package
            .as_ref()
            .map_or(&self.resolved.defaults, |package| &package.defaults)
    }
}

/// A module after the stage `fetch`.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The module was compiled before.
    Ready(PreparedModule),
    /// The module is fetched, and a task compiles it.
    Compiling(Preparation<PreparedModule>),
}

impl Fetched {
    /// Waits until the module is compiled.
    pub(super) async fn compiled(self) -> Result<PreparedModule, StepError> {
        match self {
            Self::Ready(module) => Ok(module),
            Self::Compiling(preparation) => preparation.ended().await,
        }
    }
}

/// Steps with equal keys share one preparation.
type Key = (Digest, Requester, CompileLimits);

/// The modules that steps run.
#[derive(Debug)]
pub(super) struct Modules {
    preparer: Preparer,
    preparations: Preparations<Key, PreparedModule>,
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
            preparations: Preparations::default(),
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

    /// Waits until the module is fetched, or finds it compiled in memory.
    pub(super) async fn fetch(
        &self,
        resolved: &Arc<Resolved>,
        requester: &Requester,
        limits: CompileLimits,
    ) -> Result<Fetched, StepError> {
        if let Some(module) = self.preparer.find_in_memory(resolved).await {
            return Ok(Fetched::Ready(module));
        }
        // One artifact can contain several modules, so the key is the package key.
        let key = (resolved.package_key(), requester.clone(), limits);
        let mut preparation = self.preparations.join(key, |progress| {
            let preparer = self.preparer.clone();
            let resolved = Arc::clone(resolved);
            let requester = requester.clone();
            async move {
                let preparing = preparer.prepare(resolved, &requester, limits, &progress);
                let prepared = preparing.await;
                progress.report(Progress::Ended(prepared));
            }
        });
        preparation.fetched().await?;
        Ok(Fetched::Compiling(preparation))
    }
}

impl Preparer {
    async fn find_in_memory(&self, resolved: &Arc<Resolved>) -> Option<PreparedModule> {
        let prepared = |module, package| PreparedModule {
            module,
            package,
            resolved: Arc::clone(resolved),
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

    async fn prepare(
        &self,
        resolved: Arc<Resolved>,
        requester: &Requester,
        limits: CompileLimits,
        progress: &Reporter<Key, PreparedModule>,
    ) -> Result<PreparedModule, StepError> {
        if let Some(loaded) = self.load(&resolved).await? {
            return Ok(loaded);
        }
        let fetched = self
            .sources
            .fetch(&resolved, requester)
            .await
            .map_err(|error| StepError::from_source(Stage::Fetch, &error))?;
        progress.report(Progress::Compiling);
        tokio::select! {
            compiled = self.compile(resolved, fetched, limits) => compiled,
            // The worker is killed when the other future is dropped.
            () = progress.abandoned() => {
                let message = "the module was not compiled, because no step waits for it any more";
                Err(StepError::error(Stage::Compile, message))
            }
        }
    }

    /// Loads compiled code from disk. `None` when there is none.
    async fn load(&self, resolved: &Arc<Resolved>) -> Result<Option<PreparedModule>, StepError> {
        let package = self.sources.package(resolved).await;
        let digest = package
            .as_ref()
            .map(|package| &package.module)
            .or(resolved.module.as_ref());
        let Some(name) = digest.map(ToString::to_string) else {
            return Ok(None);
        };
        let compiler = Arc::clone(&self.compiler);
        let loaded = blocking(Stage::Fetch, move || {
            Ok(compiler.load(&name).map(|module| (module, name)))
        })
        .await?;
        Ok(loaded.map(|(module, name)| {
            tracing::info!(module = name, "loaded compiled code");
            PreparedModule {
                module,
                package,
                resolved: Arc::clone(resolved),
            }
        }))
    }

    async fn compile(
        &self,
        resolved: Arc<Resolved>,
        fetched: FetchedModule,
        limits: CompileLimits,
    ) -> Result<PreparedModule, StepError> {
        let started = Instant::now();
        let name = fetched.package.module.to_string();
        let retain = if resolved.caching.no_store {
            Retain::InMemory
        } else {
            Retain::OnDisk
        };
        let FetchedModule {
            package,
            bytes,
            permit,
        } = fetched;
        let compiled = self.compiler.compile(&name, bytes, limits, retain).await;
        let reference = resolved.reference.redacted();
        let module = compiled.map_err(|error| compile_error(&reference, error))?;
        // The bytes are dropped by now.
        drop(permit);
        tracing::info!(
            module = %package.module,
            milliseconds = started.elapsed().as_millis(),
            code_bytes = module.code_bytes(),
            pooled = module.pooled(),
            kind = ?module.kind(),
            "compiled"
        );
        Ok(PreparedModule {
            module,
            package: Some(package),
            resolved,
        })
    }
}

fn compile_error(reference: &str, error: CompileError) -> StepError {
    let message = format!("`{reference}`: {error}");
    let failure = match error {
        CompileError::Limit { .. } => StepError::failed(Stage::Compile, message),
        _ => StepError::error(Stage::Compile, message),
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
    done.unwrap_or_else(|error| {
        let message = "preparing the module panicked; this is a defect of this program";
        Err(StepError::error(stage, message).caused_by(error))
    })
}
