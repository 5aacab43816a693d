//! Parses the command line, runs the command, and prints its failure.

use std::io;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use super::{Exit, Failure, output};
use super::{cache, config, inspect, lint, manifest, pull, push, run, serve, wit};
use crate::{http_templates, runtime};

const EXIT_CODES: &str = "\
Exit codes:
  0   the step Succeeded, or the command succeeded
  1   the step Failed
  2   the step ended with Error, or the command failed
  64  the command line or the configuration is invalid";

/// Runs WebAssembly modules as steps of Argo Workflows.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests from Argo's agent
    Serve(serve::Serve),
    /// Run a step on this machine, as Argo would run it
    Run(Box<run::RunStep>),
    /// Check the templates of files without running them
    Lint(lint::Lint),
    /// Fetch a module into the store
    Pull(pull::Pull),
    /// Publish a module in an OCI registry
    Push(push::Push),
    /// Show the kind, imports and exports of a module
    Inspect(inspect::Inspect),
    /// Print the step world, the WIT interface of a module that is written as a step
    Wit(wit::Wit),
    /// Print the Kubernetes objects that install the plugin
    Manifest(manifest::Manifest),
    /// List, prune, export or import fetched modules
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// Check the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Compile the module on standard input; the executor runs this command itself
    #[command(hide = true)]
    CompileWorker,
    /// Evaluate the condition on standard input; the executor runs this command itself
    #[command(hide = true)]
    ExpressionWorker,
}

/// Runs the command of the command line. A failure is printed to standard error.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Run(run) => run.run(),
        Command::Lint(lint) => lint.run(),
        Command::Pull(pull) => pull.run(),
        Command::Push(push) => push.run(),
        Command::Inspect(inspect) => inspect.run(),
        Command::Wit(wit) => Ok(wit.run()),
        Command::Manifest(manifest) => manifest.run(),
        Command::Cache(cache) => cache.run(),
        Command::Config(config) => config.run(),
        Command::CompileWorker => worked(runtime::compile_worker()),
        Command::ExpressionWorker => worked(http_templates::expression_worker()),
    };
    result.unwrap_or_else(|failure| {
        output::eprint(&format!("error: {failure}"));
        failure.exit
    })
}

fn worked(result: io::Result<()>) -> Result<Exit, Failure> {
    result.map(|()| Exit::Succeeded).map_err(Failure::error)
}

/// Prints clap's message: an error, or the text of `--help` and `--version`.
fn refuse(error: &clap::Error) -> Exit {
    // The terminal may be closed. Nothing else can be done then.
    let _ = error.print();
    if let Some(variable) = variable_of(error) {
        output::eprint(&format!(
            "hint: the value is that of the environment variable {variable}"
        ));
    }
    match error.use_stderr() {
        true => Exit::Usage,
        false => Exit::Succeeded,
    }
}

/// The environment variable that an invalid value comes from, if it comes from one. clap's message
/// names the flag, although the command line does not have the flag.
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
