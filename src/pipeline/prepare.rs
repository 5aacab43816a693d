//! From a resolved reference to a module that is ready to run: memory, disk, or fetch and compile.

use std::sync::Arc;
use std::time::Instant;

use net::SingleFlight;
use sources::{Defaults, Digest, Package, Requester, Resolved, Sources};
use tokio::sync::Semaphore;

use crate::runtime::{CompileError, CompiledModule, Compiler, Retain};
use crate::step::{Stage, StepError};

/// A module, and what it was found in.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) module: Arc<CompiledModule>,
    /// The module's digest and defaults, where a download was needed to know them; else they are in `resolved`.
    package: Option<Arc<Package>>,
    resolved: Arc<Resolved>,
}

impl Ready {
    /// The digest of what runs.
    pub(super) fn digest(&self) -> &Digest {
        let known = self.package.as_ref().map(|package| &package.module);
        known
            .or(self.resolved.module.as_ref())
            .unwrap_or(&self.resolved.artifact)
    }

    /// What it is started with unless the template says otherwise.
    pub(super) fn defaults(&self) -> &Defaults {
        self.package
            .as_ref()
            .map_or(&self.resolved.defaults, |package| &package.defaults)
    }
}

type Shared = Result<Ready, Arc<StepError>>;

/// The modules that steps run.
#[derive(Debug)]
pub(super) struct Modules {
    sources: Sources,
    compiler: Arc<Compiler>,
    flights: SingleFlight<(Digest, Requester), Shared>,
    /// One compilation uses every processor already.
    compiling: Arc<Semaphore>,
}

impl Modules {
    pub(super) fn new(sources: Sources, compiler: Arc<Compiler>) -> Self {
        Self {
            sources,
            compiler,
            flights: SingleFlight::default(),
            compiling: Arc::new(Semaphore::new(1)),
        }
    }

    /// The module, made ready by whoever asks first.
    pub(super) async fn get(&self, resolved: &Arc<Resolved>, requester: &Requester) -> Shared {
        // Most references name the module itself, and most steps find it here.
        if let Some(digest) = &resolved.module
            && let Some(module) = self.compiler.cached(&digest.to_string())
        {
            return Ok(Ready {
                module,
                package: None,
                resolved: Arc::clone(resolved),
            });
        }
        if let Some(package) = self.sources.package(resolved).await
            && let Some(module) = self.compiler.cached(&package.module.to_string())
        {
            return Ok(Ready {
                module,
                package: Some(package),
                resolved: Arc::clone(resolved),
            });
        }
        let (sources, compiler, compiling) = (
            self.sources.clone(),
            Arc::clone(&self.compiler),
            Arc::clone(&self.compiling),
        );
        let (resolved, requester) = (Arc::clone(resolved), requester.clone());
        // By what is taken out of what: one artifact can hold several modules.
        let key = (resolved.package_key(), requester.clone());
        let work = move || async move {
            make(&sources, compiler, &compiling, resolved, &requester)
                .await
                .map_err(Arc::new)
        };
        let made = self.flights.join(key, work).await;
        made.unwrap_or_else(|| {
            Err(Arc::new(StepError::error(
                Stage::Compile,
                "making the module ready broke off; this is a defect",
            )))
        })
    }
}

async fn make(
    sources: &Sources,
    compiler: Arc<Compiler>,
    compiling: &Semaphore,
    resolved: Arc<Resolved>,
    requester: &Requester,
) -> Result<Ready, StepError> {
    let package = sources.package(&resolved).await;
    let digest = package
        .as_ref()
        .map(|package| &package.module)
        .or(resolved.module.as_ref());
    if let Some(name) = digest.map(ToString::to_string) {
        let loader = Arc::clone(&compiler);
        let loaded = blocking(move || Ok(loader.load(&name).map(|module| (module, name)))).await?;
        if let Some((module, name)) = loaded {
            tracing::info!(module = name, "loaded compiled code");
            return Ok(Ready {
                module,
                package,
                resolved,
            });
        }
    }
    let fetched = sources
        .fetch(&resolved, requester)
        .await
        .map_err(|error| StepError::from_source(Stage::Fetch, &error))?;
    let _permit = compiling.acquire().await;
    let started = Instant::now();
    let (name, reference) = (
        fetched.package.module.to_string(),
        resolved.reference.redacted(),
    );
    let retain = if resolved.caching.no_store {
        Retain::InMemory
    } else {
        Retain::OnDisk
    };
    let sources::FetchedModule {
        package,
        bytes,
        permit,
    } = fetched;
    let module = blocking(move || {
        compiler
            .compile(&name, &bytes, retain)
            .map_err(|error| refused(&reference, error))
    })
    .await?;
    drop(permit);
    let (milliseconds, code_bytes, pooled) = (
        started.elapsed().as_millis(),
        module.code_bytes(),
        module.pooled(),
    );
    tracing::info!(module = %package.module, milliseconds, code_bytes, pooled, kind = ?module.kind(), "compiled");
    Ok(Ready {
        module,
        package: Some(package),
        resolved,
    })
}

fn refused(reference: &str, error: CompileError) -> StepError {
    let hint = match &error {
        CompileError::NotWasm(_) => "check the reference: it must name the module itself",
        CompileError::Invalid(_) => "build the module again, for WASI 0.1, 0.2 or 0.3",
        CompileError::Load(crate::runtime::LoadError::Import(_)) => {
            "build it for WASI 0.1, 0.2 or 0.3, without this import"
        }
        CompileError::Load(_) => {
            "a step needs `_start`, `wasi:cli/run`, or the function `run` of the step world"
        }
    };
    StepError::error(Stage::Compile, format!("`{reference}`: {error}"))
        .hint(hint)
        .caused_by(error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(
            StepError::error(Stage::Compile, "compiling broke off; this is a defect")
                .caused_by(error),
        )
    })
}
