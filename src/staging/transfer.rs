//! Bringing inputs into a step's directory, and taking outputs out of it.

use std::sync::Arc;

use artifacts::{ErrorKind, Location, transfer};
use cap_std::fs::Dir;
use futures::future::join_all;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{GuestPath, StepDirectory};
use crate::step::{Content, InputArtifact, Produced, Stage, Step, StepError};

/// An output that the module made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The artifact's name.
    pub name: String,
    /// Where the module left it.
    pub path: GuestPath,
    /// Where it goes.
    pub location: Location,
}

/// Brings every input. All of them are tried, and all that failed are named. Optional ones that are nowhere are the step's no more.
pub async fn stage_in(step: &mut Arc<Step>, directory: &StepDirectory, handle: &Handle) -> Result<(), StepError> {
    let transfers = step.inputs.iter().enumerate().filter_map(|(index, input)| {
        let content = input.content.clone()?;
        let (root, input) = (Arc::clone(directory.root()), input.clone());
        let name = input.name.clone();
        let limit = step.limits.disk;
        // When nobody waits any more, the transfer ends too.
        let bringing = AbortOnDropHandle::new(handle.spawn(async move { bring(&input, &content, &root, limit).await }));
        Some(async move {
            let brought = bringing.await.unwrap_or_else(|error| Err((Fault::Ours, format!("`{name}`: {error}"))));
            brought.map(|brought| (!brought).then_some(index))
        })
    });
    let missing = all(join_all(transfers).await, Stage::StageIn, "input artifact")?;
    for index in missing.into_iter().flatten() {
        Arc::make_mut(step).inputs[index].content = None;
    }
    directory.introduce(step)
}

/// Whose fault a failed transfer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The module left what cannot be an artifact.
    Modules,
    /// The store's or this machine's.
    Ours,
    /// The same, and the same step may succeed later.
    Passing,
}

impl From<&artifacts::Error> for Fault {
    fn from(error: &artifacts::Error) -> Self {
        match (error.kind(), error.retryable()) {
            (ErrorKind::InvalidFile, _) => Self::Modules,
            (_, true) => Self::Passing,
            _ => Self::Ours,
        }
    }
}

/// `false` when there is none, and it is optional.
async fn bring(input: &InputArtifact, content: &Content, root: &Arc<Dir>, limit: u64) -> Result<bool, (Fault, String)> {
    let place = input.path.relative();
    match content {
        Content::Raw(text) => {
            let written = root.write(place, text).map(|()| true);
            written.map_err(|error| (Fault::Ours, format!("`{}`: {error}", input.name)))
        }
        Content::Stored(location) => {
            let failed = |error: artifacts::Error| {
                ((&error).into(), format!("`{}` (key `{}`): {error}", input.name, location.key))
            };
            let store = location.repository.open().map_err(failed)?;
            match transfer::download(&*store, &location.key, root, place, limit).await {
                Ok(_) => Ok(true),
                Err(error) if input.optional && error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(failed(error)),
            }
        }
    }
}

/// Stores every output that was made. All of them are tried, and all that failed are named.
pub async fn stage_out(
    step: &Step,
    made: &[Made],
    directory: &StepDirectory,
    handle: &Handle,
) -> Result<Vec<Produced>, StepError> {
    tracing::debug!(template = step.template, count = made.len(), "storing outputs");
    let transfers = made.iter().map(|made| {
        let (root, made) = (Arc::clone(directory.root()), made.clone());
        let name = made.name.clone();
        let limit = step.limits.disk;
        let storing = AbortOnDropHandle::new(handle.spawn(async move { store(made, &root, limit).await }));
        async move { storing.await.unwrap_or_else(|error| Err((Fault::Ours, format!("`{name}`: {error}")))) }
    });
    all(join_all(transfers).await, Stage::StageOut, "output artifact")
}

async fn store(made: Made, root: &Arc<Dir>, limit: u64) -> Result<Produced, (Fault, String)> {
    let Made { name, path, location } = made;
    let failed = |error: artifacts::Error| ((&error).into(), format!("`{name}` (key `{}`): {error}", location.key));
    let store = location.repository.open().map_err(failed)?;
    let uploaded = transfer::upload(&*store, &location.key, root, path.relative(), limit).await.map_err(failed)?;
    Ok(Produced { name, path: path.to_string(), location, links_left_out: uploaded.links })
}

fn all<T>(results: Vec<Result<T, (Fault, String)>>, stage: Stage, what: &str) -> Result<Vec<T>, StepError> {
    let (mut done, mut faults, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => done.push(value),
            Err((fault, message)) => {
                faults.push(fault);
                messages.push(message);
            }
        }
    }
    if faults.is_empty() {
        return Ok(done);
    }
    let message = format!("{what} {}", messages.join("; "));
    if stage == Stage::StageOut && faults.contains(&Fault::Modules) {
        return Err(StepError::failed(stage, message));
    }
    Err(StepError::error(stage, message).retryable(faults.iter().all(|fault| *fault == Fault::Passing)))
}
