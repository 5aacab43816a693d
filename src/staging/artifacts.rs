//! Bringing inputs into a step's directory, and taking outputs out of it.

use std::sync::Arc;

use artifacts::archive::Pack;
use artifacts::quota::{Bounds, Quota};
use artifacts::transfer::{Download, Upload};
use artifacts::{ArtifactStore, ErrorKind, Location, Stores, transfer};
use cap_std::fs::Dir;
use futures::{StreamExt, stream};
use tokio::runtime::Handle;

use super::StepDirectory;
use crate::step::{Content, GuestPath, InputArtifact, Produced, Stage, Step, StepError};

/// Artifacts of one step on their way at once.
const AT_ONCE: usize = 4;

/// An output that the module made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The artifact's name.
    pub name: String,
    /// Where the module left it.
    pub path: GuestPath,
    /// Where it goes.
    pub location: Location,
    /// How it is packed.
    pub pack: Pack,
}

/// Brings every input. All of them are tried, and all that failed are named. Optional ones that are nowhere are the step's no more.
pub async fn stage_in(
    step: &mut Arc<Step>,
    directory: &StepDirectory,
    stores: &Stores,
    handle: &Handle,
) -> Result<(), StepError> {
    if step.inputs.iter().all(|input| input.content.is_none()) {
        return directory.introduce(step);
    }
    let incoming = directory.incoming()?;
    // The step's limits hold for all inputs together.
    let quota = Quota::new(Bounds {
        bytes: step.limits.disk,
        entries: step.limits.entries,
    });
    let mut transfers = Vec::new();
    for (index, input) in step
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.content.is_some())
    {
        let (incoming, step, stores) = (
            Arc::clone(incoming.root()),
            Arc::clone(step),
            stores.clone(),
        );
        let (name, handle, quota) = (input.name.clone(), handle.clone(), Arc::clone(&quota));
        transfers.push(async move {
            let opened = stores.clone();
            let bringing = async move { bring(&step, index, &incoming, &opened, &quota).await };
            stores
                .spawn_on(bringing, &handle)
                .await
                .unwrap_or_else(|error| Err((Fault::Ours, format!("`{name}`: {error}"))))
                .map(|brought| (index, brought))
        });
    }
    let brought = stream::iter(transfers).buffered(AT_ONCE).collect().await;
    let brought = all(brought, Stage::StageIn, "input artifact")?;
    let (mut there, missing): (Vec<_>, Vec<_>) =
        brought.into_iter().partition(|(_, brought)| *brought);
    // What is inside another comes after that.
    there.sort_by_key(|(index, _)| step.inputs[*index].path.relative().len());
    for (index, _) in there {
        let input = &step.inputs[index];
        let placed = transfer::merge(
            incoming.root(),
            &index.to_string(),
            directory.root(),
            input.path.relative(),
        );
        placed.map_err(|error| {
            StepError::error(
                Stage::StageIn,
                format!("input artifact `{}`: {error}", input.name),
            )
            .caused_by(error)
        })?;
    }
    for (index, _) in missing {
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

/// Brings an input to where nobody else writes, called by its number. `false` when there is none, and it is optional.
async fn bring(
    step: &Step,
    index: usize,
    incoming: &Arc<Dir>,
    stores: &Stores,
    quota: &Arc<Quota>,
) -> Result<bool, (Fault, String)> {
    let input: &InputArtifact = &step.inputs[index];
    let path = &index.to_string();
    match &input.content {
        None => Ok(false),
        Some(Content::Raw(text)) => {
            let failed =
                |error: &dyn std::fmt::Display| (Fault::Ours, format!("`{}`: {error}", input.name));
            let share = quota.share();
            let taken = share
                .take_entries(1)
                .and_then(|()| share.take_bytes(text.len() as u64));
            taken.map_err(|_| {
                failed(&"the inputs together are more than the step's limits on its disk")
            })?;
            share.commit();
            incoming.write(path, text).map_err(|error| failed(&error))?;
            transfer::set_permissions(incoming, path, input.mode)
                .await
                .map_err(|error| failed(&error))?;
            Ok(true)
        }
        Some(Content::Stored(location)) => {
            let failed = |error: artifacts::Error| {
                ((&error).into(), said(&input.name, location, None, &error))
            };
            let store = stores
                .open(location, &step.workflow.namespace)
                .await
                .map_err(failed)?;
            let failed = |error: artifacts::Error| {
                (
                    (&error).into(),
                    said(&input.name, location, Some(&*store), &error),
                )
            };
            let what = Download {
                key: &location.key,
                path,
                unpack: input.unpack,
                mode: input.mode,
            };
            match transfer::download(&*store, &what, incoming, quota).await {
                Ok(()) => Ok(true),
                Err(error) if input.optional && error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(failed(error)),
            }
        }
    }
}

/// What went wrong with an artifact, and which it is.
fn said(
    name: &str,
    location: &Location,
    store: Option<&dyn ArtifactStore>,
    error: &artifacts::Error,
) -> String {
    match (location.key.as_str(), store) {
        ("", None) => format!("`{name}`: {error}"),
        ("", Some(store)) => format!("`{name}` ({store}): {error}"),
        (key, None) => format!("`{name}` (key `{key}`): {error}"),
        (key, Some(store)) => format!("`{name}` (key `{key}` in {store}): {error}"),
    }
}

/// Stores every output that was made. All of them are tried, and all that failed are named.
pub async fn stage_out(
    step: &Step,
    made: &[Made],
    directory: &StepDirectory,
    stores: &Stores,
    handle: &Handle,
) -> Result<Vec<Produced>, StepError> {
    tracing::debug!(
        template = step.template,
        count = made.len(),
        "storing outputs"
    );
    let mut transfers = Vec::new();
    for made in made {
        let (root, stores, handle) = (Arc::clone(directory.root()), stores.clone(), handle.clone());
        let (made, name, limit) = (made.clone(), made.name.clone(), step.limits.disk);
        let namespace = step.workflow.namespace.clone();
        transfers.push(async move {
            let opened = stores.clone();
            let storing = async move { store(made, &root, limit, &opened, &namespace).await };
            stores
                .spawn_on(storing, &handle)
                .await
                .unwrap_or_else(|error| Err((Fault::Ours, format!("`{name}`: {error}"))))
        });
    }
    let stored: Vec<Result<Produced, _>> =
        stream::iter(transfers).buffered(AT_ONCE).collect().await;
    let there = stored
        .iter()
        .flatten()
        .map(|produced| format!("`{}` (key `{}`)", produced.name, produced.location.key));
    let there = there.collect::<Vec<_>>().join(", ");
    all(stored, Stage::StageOut, "output artifact").map_err(|error| match there.as_str() {
        "" => error,
        there => error.and(&format!("; stored already: {there}")),
    })
}

async fn store(
    made: Made,
    root: &Arc<Dir>,
    limit: u64,
    stores: &Stores,
    namespace: &str,
) -> Result<Produced, (Fault, String)> {
    let Made {
        name,
        path,
        location,
        pack,
    } = made;
    let failed = |error: artifacts::Error| ((&error).into(), said(&name, &location, None, &error));
    let store = stores.open(&location, namespace).await.map_err(failed)?;
    let failed = |error: artifacts::Error| {
        (
            (&error).into(),
            said(&name, &location, Some(&*store), &error),
        )
    };
    let what = Upload {
        key: &location.key,
        path: path.relative(),
        pack,
    };
    let uploaded = transfer::upload(&*store, what, root, limit)
        .await
        .map_err(failed)?;
    Ok(Produced {
        name,
        path: path.to_string(),
        location,
        links_left_out: uploaded.links,
    })
}

fn all<T>(
    results: Vec<Result<T, (Fault, String)>>,
    stage: Stage,
    what: &str,
) -> Result<Vec<T>, StepError> {
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
    Err(StepError::error(stage, message)
        .retryable(faults.iter().all(|fault| *fault == Fault::Passing)))
}
