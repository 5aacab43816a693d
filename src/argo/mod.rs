//! Argo's side: the messages between its agent and a plugin, and the template inside of them.
//!
//! The source is Argo Workflows, version 4.1: `pkg/plugins/executor/template_executor_plugin.go`
//! for the two messages, and `pkg/apis/workflow/v1alpha1/workflow_types.go` for templates. Only the
//! fields that a plugin needs are read. Other fields are ignored, because Argo may add more.
//!
//! A call is converted in this order:
//!
//! 1. `request` parses the message, and returns a [`Call`] if the template is for this plugin.
//! 2. [`repository`] finds the workflow's artifact repository.
//! 3. `convert` checks the template and makes a [`crate::step::Step`].
//! 4. [`result`] decides the form of the step's result.
//! 5. `reply` writes the outcome of the step as Argo's reply.

mod artifact;
mod artifact_context;
mod convert;
mod declaration;
mod http_template;
mod inputs;
mod outputs;
pub mod plugin;
mod reply;
pub mod repository;
mod request;
pub mod result;
mod schema;
pub mod task_set;
mod template;
mod unsupported_kinds;
pub mod workflow;

pub use artifact_context::ArtifactContext;
pub use convert::Conversion;
pub use http_template::{HttpCall, HttpHeader, HttpTemplate, SecretKeyRef, http_call};
pub use plugin::{impossible_memory, impossible_time};
pub use reply::{NodePhase, NodeResult, Reply};
pub use request::{Call, from_template, owner, parse};
pub use schema::schema;
pub use template::Template;
