//! A template out of a Workflow file, filled in as Argo's controller would fill it in.
//!
//! `load` finds the template, `parameters` sets the values of its parameters, and `variables`
//! replaces `{{…}}`.

mod load;
mod parameters;
mod variables;

pub(super) use load::{LoadedTemplate, load};
