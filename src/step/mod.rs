//! One step, from what the workflow asks to what it came to.
//!
//! [`Step`] and [`Outcome`] are plain, serialisable values: any front door can make the one and report the other, and another
//! process could run it. [`pipeline`] is the way between them.

pub mod error;
mod execution_id;
mod guest_path;

use std::time::Duration;

use artifacts::archive::{Pack, Unpack};
use artifacts::transfer::Mode;
use artifacts::{Location, Repository};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sources::{PullPolicy, Reference, Request, Requester};

pub use error::{Stage, StepError};
pub use execution_id::ExecutionId;
pub use guest_path::{GuestPath, GuestPathError};

/// What the workflow asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The workflow it belongs to.
    pub workflow: Workflow,
    /// The template's name.
    pub template: String,
    /// The module.
    pub module: Reference,
    /// When to ask the module's origin; `None` for the default.
    pub pull_policy: Option<PullPolicy>,
    /// The Secrets with credentials for the module's origin, in the workflow's namespace.
    pub pull_secrets: Vec<String>,
    /// The module's arguments, without its own name; `None` for those of its package.
    pub args: Option<Vec<String>>,
    /// Environment variables, over the ones every guest gets.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: String,
    /// What only the module understands.
    pub options: Map<String, Value>,
    /// Input parameters.
    pub parameters: Vec<Parameter>,
    /// Input artifacts.
    pub inputs: Vec<InputArtifact>,
    /// Declared output parameters.
    pub output_parameters: Vec<OutputParameter>,
    /// Declared output artifacts.
    pub output_artifacts: Vec<OutputArtifact>,
    /// Where artifacts go that only the module names: what their keys begin with. `None` when there is no repository.
    pub undeclared_artifacts: Option<Location>,
    /// Where what the module prints is kept, if it is.
    pub logs: Option<Location>,
    /// What the step may use.
    pub limits: StepLimits,
    /// How long the step may take, all stages together.
    pub timeout: Option<Duration>,
}

impl Step {
    /// What the sources are asked for.
    pub fn request(&self) -> Request {
        Request {
            reference: self.module.clone(),
            pull_policy: self.pull_policy,
            scope: self.workflow.scope(),
            requester: Requester {
                namespace: self.workflow.namespace.clone(),
                secrets: self.pull_secrets.clone(),
            },
        }
    }
}

/// The workflow a step belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// `metadata.name`
    pub name: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.uid`
    pub uid: String,
}

impl Workflow {
    /// Within one workflow a reference is resolved once. Argo before 3.4.2 sends no uid.
    pub fn scope(&self) -> String {
        if self.uid.is_empty() {
            format!("{}/{}", self.namespace, self.name)
        } else {
            self.uid.clone()
        }
    }
}

/// A parameter. Argo's values are always strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where a workflow's artifacts are that name no place of their own, as one execution sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPlace {
    /// The store.
    pub repository: Repository,
    /// What the keys of this execution's outputs begin with, without a slash at the end: no other execution's do.
    pub key: String,
    /// Whether a key alone is enough for others to find it.
    pub default: bool,
    /// Whether what modules print is kept.
    pub archive_logs: bool,
}

/// An input artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InputArtifact {
    /// Its name.
    pub name: String,
    /// Where the guest sees it.
    pub path: GuestPath,
    /// Its content; `None` for an optional artifact that was not supplied.
    pub content: Option<Content>,
    /// How it is unpacked.
    pub unpack: Unpack,
    /// Permissions of the artifact. `None` leaves them as they are.
    pub mode: Option<Mode>,
    /// Whether missing content is fine.
    pub optional: bool,
}

/// Where an input's content is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Content {
    /// In a store.
    Stored(Location),
    /// Here.
    Raw(String),
}

/// A declared output parameter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutputParameter {
    /// Its name.
    pub name: String,
    /// A constant.
    pub value: Option<String>,
    /// The file that holds it.
    pub path: Option<GuestPath>,
    /// What it is when the step gives none.
    pub default: Option<String>,
}

/// A declared output artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutputArtifact {
    /// Its name.
    pub name: String,
    /// Where it is looked for.
    pub path: GuestPath,
    /// Whether it may be missing.
    pub optional: bool,
    /// Where it goes.
    pub location: Location,
    /// How it is packed.
    pub pack: Pack,
}

/// What a step may use: the lower of what the template asks and the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLimits {
    /// Linear memory, in bytes.
    pub memory: u64,
    /// Time in the module.
    pub time: Duration,
    /// Standard output, and separately standard error, in bytes.
    pub output: u64,
    /// Blocks in the step's directory, in bytes.
    pub disk: u64,
    /// Files and directories in the step's directory.
    pub entries: u64,
    /// Fetching, staging and running together.
    pub whole: Duration,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The module did what it should.
    Succeeded,
    /// The module started, and failed.
    Failed,
    /// The module never started, or the infrastructure failed.
    Error,
}

/// What a step came to, and what it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub phase: Phase,
    /// For the person at Argo's UI.
    pub message: String,
    /// Standard output, or what the module returned as its result.
    pub result: Option<String>,
    /// The module's exit code; 134 trap, 137 memory, 124 time. `None` when it never started.
    pub exit_code: Option<i32>,
    /// Output parameters.
    pub parameters: Vec<Parameter>,
    /// Output artifacts.
    pub artifacts: Vec<Produced>,
}

/// An output artifact that was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Produced {
    /// Its name.
    pub name: String,
    /// Where the guest left it; empty for what it printed.
    pub path: String,
    /// Where it is now.
    pub location: Location,
    /// How many links in a directory were left out, because its store has no links.
    pub links_left_out: usize,
}
