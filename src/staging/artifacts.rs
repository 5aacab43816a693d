//! Bringing inputs into a step's directory, and storing outputs from it.
//!
//! Transfers run on the server's async threads, where the connections to stores are. Inputs from
//! the template itself need no connection: the thread of the slot writes them.

use std::fmt::Display;
use std::sync::Arc;

use artifacts::archive::Pack;
use artifacts::quota::{Bounds, Quota};
use artifacts::transfer::{Download, Upload};
use artifacts::{ArtifactStore, ErrorKind, Location, Stores, transfer};
use cap_std::fs::Dir;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;
use tracing::Instrument;

use super::StepDirectory;
use crate::step::{Content, GuestPath, InputArtifact, Stage, Step, StepError, StoredOutput};

/// Number of artifacts of one step that are transferred at the same time.
const AT_ONCE: usize = 4;

/// An output artifact that exists in the step's directory and is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Name of the artifact.
    pub name: String,
    /// Path of the file or directory.
    pub path: GuestPath,
    /// Where the artifact is to be stored.
    pub location: Location,
    /// How the artifact is packed.
    pub pack: Pack,
}

/// Brings all inputs into the directory, and writes `/work/input.json`. Blocks on the disk.
///
/// Returns the step as the module sees it: optional inputs that do not exist have no content.
///
/// # Errors
///
/// An input cannot be brought. All inputs are tried, and the message names each one that failed.
pub async fn stage_in(
    mut step: Arc<Step>,
    directory: &StepDirectory,
    stores: &Stores,
    handle: &Handle,
) -> Result<Arc<Step>, StepError> {
    if step.inputs.iter().any(|input| input.content.is_some()) {
        let incoming = directory.incoming()?;
        let brought = bring_all(&step, incoming.root(), stores, handle).await;
        let mut brought = all_or_error(brought, Stage::StageIn, "input artifact")?;
        // An input inside another input is moved after the outer input.
        brought.sort_by_key(|input| step.inputs[input.index].path.relative().len());
        for input in &brought {
            if input.exists {
                move_into_place(&step, input.index, incoming.root(), directory)?;
            } else {
                Arc::make_mut(&mut step).inputs[input.index].content = None;
            }
        }
    }
    directory.introduce(&step)?;
    Ok(step)
}

/// An input after its transfer.
#[derive(Clone, Copy, Debug)]
struct Brought {
    /// Index of the input in the step.
    index: usize,
    /// `false` for an optional input that does not exist.
    exists: bool,
}

/// Brings all inputs to `incoming`, each under its index as its name.
async fn bring_all(
    step: &Arc<Step>,
    incoming: &Arc<Dir>,
    stores: &Stores,
    handle: &Handle,
) -> Vec<Result<Brought, ArtifactError>> {
    // The limits apply to all inputs together.
    let quota = Quota::new(Bounds {
        bytes: step.limits.disk,
        entries: step.limits.entries,
    });
    let mut transfers = Vec::new();
    for (index, input) in step.inputs.iter().enumerate() {
        if input.content.is_none() {
            continue;
        }
        let step = Arc::clone(step);
        let incoming = Arc::clone(incoming);
        let quota = Arc::clone(&quota);
        transfers.push(async move {
            let input = &step.inputs[index];
            let exists = match &input.content {
                None => false,
                Some(Content::Raw(text)) => {
                    write_raw(input, index, text, &incoming, &quota).await?;
                    true
                }
                Some(Content::Stored(_)) => {
                    let name = input.name.clone();
                    let stores_for_download = stores.clone();
                    let step = Arc::clone(&step);
                    let download = async move {
                        download(&step, index, &incoming, &stores_for_download, &quota).await
                    };
                    let done = stores.spawn_on(download.in_current_span(), handle).await;
                    done.unwrap_or_else(|error| Err(ArtifactError::local(&name, error)))?
                }
            };
            Ok(Brought { index, exists })
        });
    }
    stream::iter(transfers).buffered(AT_ONCE).collect().await
}

/// Writes an input whose content is in the template. Blocks on the disk.
async fn write_raw(
    input: &InputArtifact,
    index: usize,
    text: &str,
    incoming: &Arc<Dir>,
    quota: &Arc<Quota>,
) -> Result<(), ArtifactError> {
    let path = index.to_string();
    let share = quota.share();
    share
        .take_entries(1)
        .and_then(|()| share.take_bytes(text.len() as u64))
        .map_err(|_| {
            let message = "the inputs together exceed the step's disk limit or entry limit";
            ArtifactError::local(&input.name, message)
        })?;
    share.commit();
    incoming
        .write(&path, text)
        .map_err(|error| ArtifactError::local(&input.name, error))?;
    transfer::set_permissions(incoming, &path, input.mode)
        .await
        .map_err(|error| ArtifactError::local(&input.name, error))
}

/// Downloads an input from a store. `false` for an optional input that does not exist.
async fn download(
    step: &Step,
    index: usize,
    incoming: &Arc<Dir>,
    stores: &Stores,
    quota: &Arc<Quota>,
) -> Result<bool, ArtifactError> {
    let input = &step.inputs[index];
    let Some(Content::Stored(location)) = &input.content else {
        return Ok(false);
    };
    let store = stores
        .open(location, &step.workflow.namespace)
        .await
        .map_err(|error| ArtifactError::opening(&input.name, location, error))?;
    let download = Download {
        key: &location.key,
        path: &index.to_string(),
        seen_at: &input.path.to_string(),
        unpack: input.unpack,
        mode: input.mode,
    };
    match transfer::download(&*store, &download, incoming, quota).await {
        Ok(()) => Ok(true),
        Err(error) if input.optional && error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(ArtifactError::transfer(
            &input.name,
            location,
            &*store,
            error,
        )),
    }
}

fn move_into_place(
    step: &Step,
    index: usize,
    incoming: &Arc<Dir>,
    directory: &StepDirectory,
) -> Result<(), StepError> {
    let input = &step.inputs[index];
    let name = index.to_string();
    transfer::merge(incoming, &name, directory.root(), input.path.relative()).map_err(|error| {
        let message = format!("input artifact `{}`: {error}", input.name);
        StepError::error(Stage::StageIn, message).caused_by(error)
    })
}

/// Stores all outputs.
///
/// # Errors
///
/// An output cannot be stored. All outputs are tried. The message names each output that failed,
/// and each one that is stored nevertheless.
pub async fn stage_out(
    step: &Step,
    files: &[OutputFile],
    directory: &StepDirectory,
    stores: &Stores,
    handle: &Handle,
) -> Result<Vec<StoredOutput>, StepError> {
    tracing::debug!(count = files.len(), "storing outputs");
    let mut transfers = Vec::new();
    for file in files {
        let name = file.name.clone();
        let upload = OutputUpload {
            file: file.clone(),
            root: Arc::clone(directory.root()),
            limit: step.limits.disk,
            namespace: step.workflow.namespace.clone(),
            stores: stores.clone(),
        };
        transfers.push(async move {
            let done = stores
                .spawn_on(upload.run().in_current_span(), handle)
                .await;
            done.unwrap_or_else(|error| Err(ArtifactError::local(&name, error)))
        });
    }
    let stored: Vec<Result<StoredOutput, _>> =
        stream::iter(transfers).buffered(AT_ONCE).collect().await;
    let succeeded = stored
        .iter()
        .flatten()
        .map(|output| format!("`{}` (key `{}`)", output.name, output.location.key));
    let succeeded = succeeded.collect::<Vec<_>>().join(", ");
    all_or_error(stored, Stage::StageOut, "output artifact").map_err(|error| {
        match succeeded.as_str() {
            "" => error,
            succeeded => error.and(&format!("; already stored: {succeeded}")),
        }
    })
}

/// The upload of one output.
struct OutputUpload {
    file: OutputFile,
    root: Arc<Dir>,
    /// Largest size of the output, in bytes.
    limit: u64,
    namespace: String,
    stores: Stores,
}

impl OutputUpload {
    async fn run(self) -> Result<StoredOutput, ArtifactError> {
        let OutputFile {
            name,
            path,
            location,
            pack,
        } = self.file;
        let store = self
            .stores
            .open(&location, &self.namespace)
            .await
            .map_err(|error| ArtifactError::opening(&name, &location, error))?;
        let upload = Upload {
            key: &location.key,
            path: path.relative(),
            pack,
        };
        let uploaded = transfer::upload(&*store, upload, &self.root, self.limit)
            .await
            .map_err(|error| ArtifactError::transfer(&name, &location, &*store, error))?;
        Ok(StoredOutput {
            name,
            path: path.to_string(),
            location,
            links_left_out: uploaded.links,
        })
    }
}

/// Why one artifact was not transferred. The message names the artifact, and its key and store as
/// far as they are known.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct ArtifactError {
    cause: Cause,
    message: String,
    source: Option<artifacts::Error>,
}

/// The cause of a failed transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The module left something that cannot be an artifact.
    Module,
    /// The store, the network or this machine.
    Infrastructure,
}

impl ArtifactError {
    /// An error of this machine.
    fn local(name: &str, error: impl Display) -> Self {
        Self {
            cause: Cause::Infrastructure,
            message: format!("`{name}`: {error}"),
            source: None,
        }
    }

    /// The store of the artifact cannot be opened.
    fn opening(name: &str, location: &Location, error: artifacts::Error) -> Self {
        let reason = error.describe();
        let message = match location.key.as_str() {
            "" => format!("`{name}`: {reason}"),
            key => format!("`{name}` (key `{key}`): {reason}"),
        };
        Self::new(message, error)
    }

    /// The transfer failed.
    fn transfer(
        name: &str,
        location: &Location,
        store: &dyn ArtifactStore,
        error: artifacts::Error,
    ) -> Self {
        let reason = error.describe();
        let message = match location.key.as_str() {
            "" => format!("`{name}` ({store}): {reason}"),
            key => format!("`{name}` (key `{key}` in {store}): {reason}"),
        };
        Self::new(message, error)
    }

    fn new(message: String, error: artifacts::Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::InvalidFile => Cause::Module,
            _ => Cause::Infrastructure,
        };
        Self {
            cause,
            message,
            source: Some(error),
        }
    }
}

/// The values of all results; or one error for all that failed.
fn all_or_error<T>(
    results: Vec<Result<T, ArtifactError>>,
    stage: Stage,
    kind: &str,
) -> Result<Vec<T>, StepError> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    let message = format!("{kind} {}", messages.join("; "));
    let is_modules = errors.iter().any(|error| error.cause == Cause::Module);
    let Some(first) = errors.into_iter().next() else {
        return Ok(values);
    };
    let error = match stage {
        Stage::StageOut if is_modules => StepError::failed(stage, message),
        _ => StepError::error(stage, message),
    };
    Err(match first.source {
        Some(source) => error.caused_by(source),
        None => error,
    })
}
