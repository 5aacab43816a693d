//! From a resolved reference to a module that is ready to run: memory, disk, or fetch and compile.

use std::sync::Arc;
use std::time::Instant;

use sources::{Flights, Resolved, Sources};
use tokio::sync::Semaphore;

use super::{Stage, StepError};
use crate::runtime::{CompileError, Compiler, Module};

type Shared = Result<Arc<Module>, Arc<StepError>>;

/// The modules that steps run.
#[derive(Debug)]
pub(super) struct Modules {
    sources: Sources,
    compiler: Arc<Compiler>,
    flights: Flights<String, Shared>,
    /// One compilation uses every processor already.
    compiling: Arc<Semaphore>,
}

impl Modules {
    pub(super) fn new(sources: Sources, compiler: Arc<Compiler>) -> Self {
        Self { sources, compiler, flights: Flights::default(), compiling: Arc::new(Semaphore::new(1)) }
    }

    /// The module, made ready by whoever asks first.
    pub(super) async fn get(&self, resolved: &Arc<Resolved>) -> Shared {
        // Not known before the download only for packed modules.
        let Some(digest) = resolved.module.as_ref().map(ToString::to_string) else {
            let error = StepError::error(Stage::Fetch, "packed modules are not supported by this version");
            return Err(Arc::new(error));
        };
        if let Some(module) = self.compiler.cached(&digest) {
            return Ok(module);
        }
        let (sources, compiler, compiling) =
            (self.sources.clone(), Arc::clone(&self.compiler), Arc::clone(&self.compiling));
        let (resolved, key) = (Arc::clone(resolved), digest.clone());
        let work =
            move || async move { make(&sources, compiler, &compiling, &resolved, digest).await.map_err(Arc::new) };
        let made = self.flights.join(key, work).await;
        made.unwrap_or_else(|| {
            Err(Arc::new(StepError::error(Stage::Compile, "making the module ready broke off; this is a defect")))
        })
    }
}

async fn make(
    sources: &Sources,
    compiler: Arc<Compiler>,
    compiling: &Semaphore,
    resolved: &Arc<Resolved>,
    digest: String,
) -> Result<Arc<Module>, StepError> {
    let (loader, name) = (Arc::clone(&compiler), digest.clone());
    if let Some(module) = blocking(move || Ok(loader.load(&name))).await? {
        tracing::info!(module = digest, "loaded compiled code");
        return Ok(module);
    }
    let fetched = sources.fetch(resolved).await.map_err(|error| StepError::from_source(Stage::Fetch, &error))?;
    let _permit = compiling.acquire().await;
    let started = Instant::now();
    let (name, reference) = (digest.clone(), resolved.reference.redacted());
    let module =
        blocking(move || compiler.compile(&name, &fetched.bytes).map_err(|error| refused(&reference, error))).await?;
    let (milliseconds, code_bytes, pooled) = (started.elapsed().as_millis(), module.code_bytes(), module.pooled());
    tracing::info!(module = digest, milliseconds, code_bytes, pooled, kind = ?module.kind(), "compiled");
    Ok(module)
}

fn refused(reference: &str, error: CompileError) -> StepError {
    let hint = match &error {
        CompileError::NotWasm(_) => "check the reference: it must name the module itself",
        CompileError::Invalid(_) => "build the module again, for WASI 0.1, 0.2 or 0.3",
        CompileError::Load(crate::runtime::LoadError::Import(_)) => {
            "build it for WASI 0.1, 0.2 or 0.3, without this import"
        }
        CompileError::Load(_) => "a step needs `_start`, `wasi:cli/run`, or the function `run` of the step world",
    };
    StepError::error(Stage::Compile, format!("`{reference}`: {error}")).hint(hint).caused_by(error)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(StepError::error(Stage::Compile, "compiling broke off; this is a defect").caused_by(error))
    })
}
