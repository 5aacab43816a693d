//! The composition root: makes the parts of the program from the configuration, and runs them.
//!
//! `serve` uses all of it: [`Listeners::bind`], [`App::build`], then [`App::serve`], which drains
//! at the end. Commands for a single task use the functions that make one part.

pub mod artifact_host;
mod credentials;
mod directories;
mod drain;
mod error;
mod front_end;
mod heap;
mod listeners;
mod parts;
mod server;
mod set_up;
mod signals;

pub use directories::{ChosenDirectories, Directories};
pub use error::AppError;
pub use front_end::StepSource;
pub use heap::return_freed_memory;
pub use listeners::Listeners;
pub use parts::{kubernetes, sources, stores};
pub use server::{App, stand_aside};
pub use set_up::{SharedWithFrontEnd, executor_settings, set_up};
pub use signals::StopSignals;
