//! The command line. Standard output is for data, standard error for talk.
#![allow(
    clippy::doc_markdown,
    reason = "help texts are shown as they are written"
)]

mod cache;
mod config;
mod exit;
mod inspect;
mod manifest;
mod output;
mod progress;
mod pull;
mod push;
mod run;
mod serve;
mod settings;
mod template;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

pub use exit::Exit;

/// Runs WebAssembly modules as steps of Argo Workflows.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve Argo's agent
    Serve(serve::Serve),
    /// Run a step on this machine, as Argo would
    Run(Box<run::RunStep>),
    /// Fetch a module into the store
    Pull(pull::Pull),
    /// Publish a module in an OCI registry
    Push(push::Push),
    /// Show what a module is, wants and offers
    Inspect(inspect::Inspect),
    /// Print what an operator applies to a cluster, filled in
    Manifest(manifest::Manifest),
    /// Look into the store of fetched modules, or make room in it
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Work with the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Runs what the command line asks for. Says what went wrong on standard error.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            if let Some(variable) = variable_of(&error) {
                output::say(&format!(
                    "hint: the value is that of the environment variable {variable}"
                ));
            }
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Succeeded
            };
        }
    };
    let ran = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Run(run) => run.run(),
        Command::Pull(pull) => pull.run(),
        Command::Push(push) => push.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Manifest(manifest) => manifest.run(),
        Command::Cache(cache) => cache.run(),
        Command::Config(config) => config.run(),
    };
    ran.unwrap_or_else(|failure| {
        output::say(&format!("error: {}", failure.message));
        failure.exit
    })
}

/// The environment variable that a refused value is from: clap blames the flag, which nobody wrote.
fn variable_of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = blamed.split([' ', '=']).next()?;
    if std::env::args_os().any(|arg| arg.to_string_lossy().split('=').next() == Some(flag)) {
        return None;
    }
    let command = Cli::command();
    let mut args = command
        .get_subcommands()
        .flat_map(|command| command.get_subcommands().chain([command]));
    let arg = args.find_map(|command| {
        command
            .get_arguments()
            .find(|arg| arg.get_long() == flag.strip_prefix("--"))
    })?;
    arg.get_env()
        .map(|name| name.to_string_lossy().into_owned())
}

/// Why a command did not do what it should.
#[derive(Debug)]
struct Failure {
    message: String,
    exit: Exit,
}

impl Failure {
    /// What was asked for makes no sense.
    fn usage(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: Exit::Usage,
        }
    }

    /// What was asked for could not be done.
    fn error(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: Exit::Error,
        }
    }
}

impl From<sources::Error> for Failure {
    fn from(error: sources::Error) -> Self {
        match error.remedy() {
            Some(hint) => Self::error(format!("{error}\nhint: {hint}")),
            None => Self::error(error),
        }
    }
}
