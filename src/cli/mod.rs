//! The command line. Standard output is for data, standard error for messages.
//!
//! `command` parses the arguments and runs a command. Each command has a file or a folder of its
//! own. `settings` has the flags that all commands share.
#![allow(
    clippy::doc_markdown,
    reason = "help texts are shown as they are written"
)]

mod arguments;
mod cache;
mod cluster_flags;
mod command;
mod config;
mod exit;
mod failure;
mod fetcher;
mod inspect;
mod lint;
mod manifest;
mod output;
mod progress;
mod pull;
mod push;
mod run;
mod serve;
mod settings;
mod template;
mod wit;

pub use command::main;
pub use exit::Exit;
pub(crate) use failure::Failure;
