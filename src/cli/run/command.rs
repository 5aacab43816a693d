//! Runs the step of a command line.

use std::sync::Arc;

use parking_lot::Mutex;
use sources::{Request, Sources};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::flags::RunStep;
use super::report::{self, Outputs, Terminal};
use super::step::{self, PreparedStep};
use crate::app::executor_settings;
use crate::argo::Reply;
use crate::argo::repository::{DestinationLookup, Repositories};
use crate::argo::result::ResultUse;
use crate::cli::progress::Spinner;
use crate::cli::settings::{self, Common};
use crate::cli::{Exit, Failure, output};
use crate::config::Config;
use crate::kubernetes::Kubernetes;
use crate::pipeline::{Executor, Tees};
use crate::runtime::Kind;
use crate::step::{ExecutionId, Outcome, Owner, Phase, Step, StepNames, Workflow};

/// Slots of the executor. `run` runs one step.
const SLOTS: u32 = 1;

/// The streams of the module that the terminal shows, as far as they were written.
#[derive(Debug, Default)]
struct Printed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The end of a step.
struct Ended {
    outcome: Outcome,
    /// Whether the module may have the parameters that the template does not refer to.
    gets_parameters: bool,
}

impl RunStep {
    pub(in crate::cli) fn run(self) -> Result<Exit, Failure> {
        // The log is off, because it would repeat the report.
        let config = self.common.start(Some("off"))?;
        self.check_output_directory(&config)?;
        let runtime = settings::runtime()?;
        let kubernetes = runtime.block_on(async { self.common.kubernetes() })?;
        let repository = repository(&config, &runtime);
        let PreparedStep {
            step,
            template,
            result,
            unread,
        } = step::prepare(&self, &config, repository)?;
        let printed = Arc::<Mutex<Printed>>::default();
        let tees = match self.json {
            true => Tees::default(),
            false => tees(&printed),
        };
        let Ended {
            mut outcome,
            gets_parameters,
        } = runtime.block_on(self.execute(&config, kubernetes, step, tees))?;
        result.apply(ResultUse::Single, &mut outcome);
        let exit = match outcome.phase {
            Phase::Succeeded => Exit::Succeeded,
            Phase::Failed => Exit::Failed,
            Phase::Error => Exit::Error,
        };
        if self.json {
            let reply = Reply::outcome(outcome, &template);
            let node = serde_json::to_string(&reply.node).map_err(Failure::error)?;
            output::data(&format!("{node}\n"));
        } else {
            let outputs = match &config.artifacts.repository {
                Some(_) => Outputs::Repository,
                None => Outputs::Directory(self.output_directory()),
            };
            let printed = printed.lock();
            if !gets_parameters {
                report::note_unread(&unread);
            }
            let terminal = Terminal {
                stdout: &String::from_utf8_lossy(&printed.stdout),
                stderr: &String::from_utf8_lossy(&printed.stderr),
            };
            report::report(&outcome, &terminal, &outputs);
        }
        Ok(exit)
    }

    /// Refuses an output directory that cannot be used, before the module runs.
    fn check_output_directory(&self, config: &Config) -> Result<(), Failure> {
        let Some(directory) = &self.output_dir else {
            return Ok(());
        };
        if config.artifacts.repository.is_some() {
            return Err(Failure::usage(
                "--output-dir cannot be used with an artifact repository; remove one of the two",
            ));
        }
        match directory.ancestors().find(|directory| directory.exists()) {
            Some(ancestor) if !ancestor.is_dir() => Err(Failure::usage(format!(
                "--output-dir: `{}` is not a directory",
                ancestor.display()
            ))),
            _ => Ok(()),
        }
    }

    async fn execute(
        &self,
        config: &Config,
        kubernetes: Option<Kubernetes>,
        step: Step,
        tees: Tees,
    ) -> Result<Ended, Failure> {
        let spinner = Spinner::new("preparing the module");
        let directories = self.common.directories(false)?;
        let stores = Common::stores(config, kubernetes.clone());
        let sources = self
            .common
            .sources(config, &directories, kubernetes, true, spinner.shared())
            .inspect_err(|_| spinner.clear())?;
        let executor = Executor::new(
            sources.clone(),
            stores,
            executor_settings(config, &directories, SLOTS),
        )
        .map_err(|error| Failure::error(format!("the executor cannot be set up: {error:#}")))?;
        let executor = Arc::new(executor);
        let names = StepNames {
            execution: ExecutionId::new("run"),
            owner: Arc::new(Owner::new(&step.workflow, &step.template, None)),
        };
        // The step would prepare its module itself. Here the spinner shows the progress.
        let request = step.request();
        let gets_parameters = match executor.prepare(&step).await {
            Ok(module) if module.kind() != Kind::Step => names_input(&sources, &request).await,
            Ok(_) => true,
            Err(error) => {
                spinner.clear();
                return Ok(Ended {
                    outcome: executor.failed(&names, error),
                    gets_parameters: true,
                });
            }
        };
        spinner.clear();
        let span = names.span();
        let outcome = executor
            .execute(names, step, cancelled_by_ctrl_c(), tees)
            .instrument(span)
            .await;
        // No later process would remove the directories of this one.
        executor.clean_up();
        Ok(Ended {
            outcome,
            gets_parameters,
        })
    }
}

/// Whether the module contains the name of the file with the parameters, `/work/input.json`. A
/// module that reads the file contains its name. True if the module cannot be read.
async fn names_input(sources: &Sources, request: &Request) -> bool {
    let bytes = async {
        let resolved = sources.resolve(request).await?;
        sources.fetch(&resolved, &request.requester).await
    };
    bytes.await.map_or(true, |module| {
        let name = b"input.json";
        module.bytes.windows(name.len()).any(|bytes| bytes == name)
    })
}

/// The operator's artifact repository, if one is configured.
fn repository(config: &Config, runtime: &Runtime) -> DestinationLookup {
    let Some(repository) = &config.artifacts.repository else {
        return DestinationLookup::Unknown;
    };
    let repositories = Repositories::new(None, Some(repository.clone()), None);
    let workflow = Workflow {
        name: "run".to_owned(),
        ..Workflow::default()
    };
    runtime.block_on(repositories.destination(&workflow, "step", false))
}

/// Copies both streams of the module to the terminal and to `printed`.
fn tees(printed: &Arc<Mutex<Printed>>) -> Tees {
    let of_stdout = Arc::clone(printed);
    let stdout = move |bytes: &[u8]| {
        of_stdout.lock().stdout.extend_from_slice(bytes);
        output::data_bytes(bytes);
    };
    let of_stderr = Arc::clone(printed);
    let stderr = move |bytes: &[u8]| {
        of_stderr.lock().stderr.extend_from_slice(bytes);
        output::eprint_bytes(bytes);
    };
    Tees {
        stdout: Some(Box::new(stdout)),
        stderr: Some(Box::new(stderr)),
    }
}

/// A token that is cancelled when the user presses Ctrl+C.
fn cancelled_by_ctrl_c() -> CancellationToken {
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancelled.cancel();
        }
    });
    cancel
}
