//! An executor plugin for Argo Workflows that runs WebAssembly modules as workflow steps.
//!
//! ```text
//! POST /api/v1/template.execute
//!   api      token, body bound                            │ 403
//!   argo     parse the template                           │ not ours: {}     a mistake in it: Error
//!   jobs     adopt the job of an earlier call, or start one │ not done: `requeue`
//!   step     resolve ─ fetch ─ compile ─ stage in ─ run ─ collect ─ stage out  (step::pipeline)
//!   argo     the reply
//! ```
//!
//! | module | knows | does not know |
//! |---|---|---|
//! | [`api`] | HTTP | what a step is made of |
//! | [`argo`] | Argo's messages | how a step is run |
//! | [`jobs`] | which call gets which step | what a step is |
//! | [`step`] | the order of the stages | HTTP, Argo |
//! | [`staging`] | the step's directory | wasmtime |
//! | [`runtime`] | wasmtime | all of the above |
//! | [`kubernetes`] | its API | what it is read for |
//! | [`credentials`] | where credentials are | what they are for |
//! | [`repositories`] | where workflows' artifacts are | how they get there |
//! | [`workflows`] | which steps nobody wants any more | what a step is |
//! | [`surroundings`] | what artifact stores need | stores |
//! | [`config`], [`cli`] | what the operator says | |

pub mod agent;
pub mod app;
pub mod argo;
pub mod cli;
pub mod config;
pub mod executions;
pub mod kubernetes;
pub mod pipeline;
pub mod runtime;
pub mod staging;
pub mod step;
pub mod telemetry;
pub mod text;
