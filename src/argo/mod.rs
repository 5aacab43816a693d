//! Argo's side of the wire: what its agent posts, and what it wants back.
//!
//! The source is Argo Workflows, version 4.1: `pkg/plugins/executor/template_executor_plugin.go` for the two messages,
//! `pkg/apis/workflow/v1alpha1/workflow_types.go` for templates. Only what a plugin needs is read; what Argo may add is ignored.

mod artifact;
mod convert;
pub mod plugin;
mod reply;
pub mod repository;
mod request;
mod schema;
mod template;
pub mod workflow;

pub use convert::{Conversion, Placement};
pub use reply::{NodeResult, Reply};
pub use request::{Call, from_template, parse};
pub use schema::schema;
pub use template::Template;
