//! The server: all parts of `serve`, from start to end.

use std::io;
use std::sync::Arc;

use artifacts::Stores;
use sources::Sources;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::directories::Directories;
use super::drain;
use super::error::AppError;
use super::heap;
use super::listeners::Listeners;
use super::parts;
use super::set_up::set_up;
use super::signals::StopSignals;
use crate::admin;
use crate::agent::{self, Api, Auth, Calls, PatchBudget};
use crate::argo::repository::Repositories;
use crate::argo::result::ResultUses;
use crate::config::Config;
use crate::executions::{Executions, Registry, cancellation};
use crate::kubernetes::Kubernetes;
use crate::listener::Occurrences;
use crate::pipeline::Executor;

/// The parts of `serve`.
#[derive(Debug)]
pub struct App {
    config: Config,
    directories: Directories,
    kubernetes: Option<Kubernetes>,
    auth: Auth,
    stores: Stores,
    sources: Sources,
    executions: Arc<Executions>,
    calls: Calls,
    /// Publishes the executor to the executions.
    publish: watch::Sender<Option<Arc<Executor>>>,
    /// Stops the ports, and cancels all executions.
    shutdown: CancellationToken,
}

impl App {
    /// Makes the parts. The executor is set up later, by [`serve`](Self::serve).
    pub fn build(
        config: Config,
        directories: Directories,
        kubernetes: Option<Kubernetes>,
        auth: Auth,
    ) -> Result<Self, AppError> {
        let shutdown = CancellationToken::new();
        let stores = parts::stores(&config, kubernetes.clone());
        let progress = Arc::new(());
        let sources = parts::sources(&config, &directories, kubernetes.clone(), false, progress)?;
        let (publish, executor) = watch::channel(None);
        let executions = Executions {
            repositories: Repositories::new(
                kubernetes.clone(),
                config.artifacts.repository.clone(),
                config.artifacts.controller_namespace.clone(),
            ),
            result_uses: ResultUses::new(kubernetes.clone()),
            limits: config.step_limits(),
            executor,
            registry: Registry::default(),
        };
        Ok(Self {
            calls: Calls::new(config.agent, config.call_memory(), shutdown.clone()),
            executions: Arc::new(executions),
            config,
            directories,
            kubernetes,
            auth,
            stores,
            sources,
            publish,
            shutdown,
        })
    }

    /// Serves until a signal arrives, and then drains. The ports answer at once, and calls wait for
    /// the executor while it is set up.
    pub async fn serve(
        self,
        listeners: Listeners,
        mut signals: StopSignals,
    ) -> Result<(), AppError> {
        let mut server = self.start(listeners);
        let executor = tokio::select! {
            executor = self.set_up() => Arc::new(executor?),
            () = signals.received() => {
                self.shutdown.cancel();
                drain::replies(&mut server).await;
                return Ok(());
            }
        };
        self.publish.send_replace(Some(Arc::clone(&executor)));
        tracing::info!("ready");
        tokio::select! {
            () = signals.received() => {}
            ended = &mut server => return Ok(ended??),
        }
        self.drain(server, executor).await;
        Ok(())
    }

    /// Starts the ports, the checks of Workflows, and the return of freed memory.
    fn start(&self, listeners: Listeners) -> JoinHandle<io::Result<()>> {
        tokio::spawn(heap::return_freed_memory(self.shutdown.clone()));
        if let Some(kubernetes) = self.kubernetes.clone() {
            tokio::spawn(cancellation::watch(
                kubernetes,
                self.executions.registry.clone(),
                self.config.agent.workflow_poll_interval.0,
                self.shutdown.clone(),
            ));
        }
        let agent = agent::router(Api {
            auth: self.auth.clone(),
            refused_calls: Occurrences::new(
                "a call was refused: its token is missing or wrong",
                "more calls were refused: their tokens are missing or wrong",
            ),
            slow_calls: Occurrences::new(
                "a call was postponed: its body did not arrive within 10 s",
                "more calls were postponed: their bodies did not arrive within 10 s",
            ),
            executions: Arc::clone(&self.executions),
            calls: self.calls.clone(),
            patch_budget: PatchBudget::new(self.config.agent.patch_rate.0),
        });
        let admin = admin::router(Arc::clone(&self.executions));
        listeners.serve(agent, admin, &self.shutdown)
    }

    async fn set_up(&self) -> Result<Executor, AppError> {
        let sources = self.sources.clone();
        let stores = self.stores.clone();
        let config = self.config.clone();
        let directories = self.directories.clone();
        let results_full = self.calls.results_full();
        tokio::task::spawn_blocking(move || {
            set_up(sources, stores, &config, &directories, results_full)
        })
        .await?
    }

    async fn drain(&self, mut server: JoinHandle<io::Result<()>>, executor: Arc<Executor>) {
        tracing::info!("stopping: running steps are cancelled");
        self.shutdown.cancel();
        drain::replies(&mut server).await;
        drain::executions(&self.calls, &self.stores).await;
        drain::directories(executor).await;
    }
}
