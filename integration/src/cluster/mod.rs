//! A double of the Kubernetes API and of Argo's controller, for `serve --cluster`.
//!
//! - [`store`] keeps the objects, with their versions and their history.
//! - [`api`] serves the store: list, watch, get, and merge patches with preconditions.
//! - [`double`] starts all of them, and replicas of the executor.
//! - [`controller`] runs workflows, as Argo's controller does.

pub mod api;
pub mod controller;
pub mod double;
pub(crate) mod merge_patch;
pub mod selector;
pub mod store;
