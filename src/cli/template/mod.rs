//! A template out of a Workflow file, filled in as Argo's controller would fill it in.
//!
//! `load` finds the template, `find` finds all templates of a file, `parameters` sets the values of
//! its parameters, and `variables` replaces `{{…}}`.

mod find;
mod load;
mod parameters;
mod variables;

pub(super) use find::{FoundTemplate, find_all};
pub(super) use load::{LoadedTemplate, load};
