//! An executor plugin for Argo Workflows that runs WebAssembly modules as workflow steps.
//!
//! The way of one call:
//!
//! ```text
//! POST /api/v1/template.execute
//!   agent       checks token and size of the request          │ 403
//!   argo        parses the template                           │ of another plugin: {}
//!   agent       adopts the execution of an earlier call       │ not done yet: `requeue`
//!   executions  or starts an execution
//!   pipeline    resolve ─ fetch ─ compile ─ queue ─ stage in ─ run ─ collect ─ stage out
//!   argo        the reply
//! ```
//!
//! The modules are layers: each module uses only modules below it in this table.
//!
//! | module | contains |
//! |---|---|
//! | [`cli`] | commands: parse flags, print results |
//! | [`app`] | composition root: makes the parts from the configuration, serves, drains |
//! | [`agent`], [`admin`] | HTTP: the front end for Argo's agent, and the port for probes |
//! | [`cluster`] | the front end for a whole cluster: TaskSets, claims, results |
//! | [`http_templates`] | sends the requests of `http` templates |
//! | [`executions`] | runs one call from template to outcome; registry; cancellation |
//! | [`argo`] | Argo's messages and objects: templates, replies, Workflows, artifact repositories |
//! | [`pipeline`] | the stages of a step, in order |
//! | [`staging`] | the directory of a step |
//! | [`runtime`], [`telemetry`] | wasmtime, and the scheduler of steps; the log |
//! | [`config`] | the configuration document |
//! | [`step`], [`kubernetes`] | values: step, outcome, errors; the client of the Kubernetes API |
//! | [`listener`] | HTTP listeners with bounds on connections, times and bytes |
//! | [`sandbox`] | processes that compute with untrusted input |
//! | [`text`] | parsers: YAML, documents, units |

pub mod admin;
pub mod agent;
pub mod app;
pub mod argo;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod executions;
pub mod http_templates;
pub mod kubernetes;
pub mod listener;
pub mod pipeline;
pub mod runtime;
pub mod sandbox;
pub mod staging;
pub mod step;
pub mod telemetry;
pub mod text;
