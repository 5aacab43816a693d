//! `run`: a step on this machine, as Argo would run it.
//!
//! The command line is written into a template: one from a Workflow file, or an empty one. Then the
//! template is converted and run as by `serve`.
//!
//! | file | contents |
//! |---|---|
//! | `flags` | the flags of the command |
//! | `template_edits` | writes the flags into the template |
//! | `artifact_flags` | reads the flags of input artifacts |
//! | `step` | makes the step |
//! | `command` | runs the step |
//! | `report` | prints the outcome |

mod artifact_flags;
mod command;
mod flags;
mod report;
mod step;
mod template_edits;

pub(super) use flags::RunStep;
