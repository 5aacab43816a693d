//! The plain values of a step: the request of a front end, and the outcome for it.
//!
//! A front end makes a [`Step`] and reads an [`Outcome`]. Both are serialisable values without
//! handles of this process, so another process could run the step. [`crate::pipeline`] makes the
//! outcome from the step. This folder knows no other folder but `text`.

mod definition;
mod error;
mod execution_id;
mod guest_path;
mod input;
mod limits;
mod names;
mod outcome;
mod output;
mod stage;
mod step_names;

pub use definition::{Parameter, Step, Workflow};
pub use error::StepError;
pub use execution_id::ExecutionId;
pub use guest_path::{GuestPath, GuestPathError};
pub use input::{Content, InputArtifact};
pub use limits::{CompileLimits, OutputLimits, StepLimits};
pub use names::{LOG_ARTIFACT, is_artifact_name, is_parameter_name};
pub use outcome::{Outcome, Phase, StoredOutput};
pub use output::{ArtifactDestination, OutputArtifact, OutputParameter};
pub use stage::Stage;
pub use step_names::{Owner, StepNames};
pub(crate) use step_names::{owner_event, step_event};
