//! The directory of a step: the guest's `/`.
//!
//! ```text
//! /                      made for the step, removed after the step
//! ├── <declared paths>   inputs, and the parent directories of all inputs and outputs
//! ├── tmp/
//! └── work/
//!     ├── input.json     parameters, options and artifacts
//!     ├── result.json    written by modules of the `/work` contract
//!     ├── artifacts-in/  links to the inputs, by their declared paths
//!     └── artifacts-out/ a second place where the module can leave outputs
//! ```
//!
//! The host makes the layout before the guest starts. From then on the host opens files only
//! relative to the directory, and follows no link out of the directory.
//!
//! Most functions here block on the disk. They run on the thread of a slot, where blocking is
//! allowed.

mod artifacts;
mod cleaner;
mod directory;
mod removal;
mod scratch;
mod work_input;

pub use self::artifacts::{OutputFile, stage_in, stage_out};
pub use cleaner::Cleaner;
pub use directory::StepDirectory;
pub use scratch::Scratch;
pub use work_input::{PluginOption, WorkArtifact, WorkInput, WorkKey};
