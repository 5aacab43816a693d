//! The server: all parts of `serve`, from start to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use artifacts::Stores;
use sources::Sources;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::directories::Directories;
use super::drain;
use super::error::AppError;
use super::front_end::{Context, FrontEnd, StepSource};
use super::listeners::Listeners;
use super::parts;
use super::set_up::{SharedWithFrontEnd, set_up};
use super::signals::StopSignals;
use crate::admin;
use crate::agent::{self, Auth, CallReader};
use crate::argo::repository::Repositories;
use crate::argo::result::ResultUses;
use crate::config::{Config, NamespaceRules};
use crate::executions::{Executions, Registry, Room};
use crate::kubernetes::Kubernetes;
use crate::pipeline::Executor;
use crate::telemetry::Metrics;

/// The parts of `serve`.
#[derive(Debug)]
pub struct App {
    config: Config,
    directories: Directories,
    stores: Stores,
    sources: Sources,
    executions: Arc<Executions>,
    room: Room,
    kubernetes: Option<Kubernetes>,
    source: StepSource,
    metrics: Metrics,
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
        source: StepSource,
    ) -> Result<Self, AppError> {
        let kubernetes = match &source {
            StepSource::Agent(_) => kubernetes,
            StepSource::Cluster(_) => {
                let account = &config.cluster.tenant_account;
                kubernetes.map(|kubernetes| kubernetes.acting_for_tenants(account))
            }
        };
        let shutdown = CancellationToken::new();
        let room = Room::new(config.call_memory());
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
            rules: NamespaceRules::new(&config),
            executor,
            registry: Registry::default(),
        };
        let metrics = Metrics::new(config.capacity.steps);
        Ok(Self {
            source,
            metrics,
            kubernetes,
            executions: Arc::new(executions),
            room,
            config,
            directories,
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
        let is_ready = Arc::new(AtomicBool::new(false));
        let context = Context {
            is_ready: &is_ready,
            config: &self.config,
            kubernetes: self.kubernetes.as_ref(),
            executions: &self.executions,
            room: &self.room,
            shutdown: &self.shutdown,
            metrics: &self.metrics,
        };
        let (mut front_end, agent) = FrontEnd::start(&self.source, &context)?;
        let executions = Arc::clone(&self.executions);
        let ready = move || executions.is_ready() && is_ready.load(Ordering::Relaxed);
        let admin = admin::router(ready, self.metrics.clone());
        let mut ports = listeners.serve(agent, admin, &self.shutdown);
        let executor = tokio::select! {
            executor = self.set_up() => Arc::new(executor?),
            () = signals.received() => {
                self.shutdown.cancel();
                drain::replies(&mut ports).await;
                return Ok(());
            }
        };
        self.publish.send_replace(Some(Arc::clone(&executor)));
        tracing::info!("ready");
        let served = tokio::select! {
            () = signals.received() => Ok(()),
            ended = &mut ports => return Ok(ended??),
            error = front_end.failed() => Err(error),
        };
        if served.is_ok() {
            tokio::select! {
                () = front_end.drain(self.config.cluster.drain_time.0) => {}
                () = signals.received() => {}
            }
        }
        self.drain(ports, front_end, executor).await;
        served
    }

    async fn set_up(&self) -> Result<Executor, AppError> {
        let sources = self.sources.clone();
        let stores = self.stores.clone();
        let config = self.config.clone();
        let directories = self.directories.clone();
        let shared = SharedWithFrontEnd {
            results_full: self.room.results_full(),
            has_tenants: matches!(self.source, StepSource::Cluster(_)),
            metrics: self.metrics.clone(),
        };
        tokio::task::spawn_blocking(move || set_up(sources, stores, &config, &directories, shared))
            .await?
    }

    async fn drain(
        self,
        mut ports: JoinHandle<io::Result<()>>,
        front_end: FrontEnd,
        executor: Arc<Executor>,
    ) {
        tracing::info!("stopping: running steps are cancelled");
        self.shutdown.cancel();
        drain::replies(&mut ports).await;
        drain::executions(front_end.finish(), &self.stores).await;
        drain::directories(executor).await;
    }
}

/// Serves the ports of a sidecar beside an executor of the whole cluster, until a signal arrives.
pub async fn stand_aside(
    auth: Auth,
    listeners: Listeners,
    mut signals: StopSignals,
) -> Result<(), AppError> {
    let shutdown = CancellationToken::new();
    let agent = agent::stand_aside(CallReader::new(auth));
    let admin = admin::router(|| true, Metrics::new(0));
    let mut ports = listeners.serve(agent, admin, &shutdown);
    tracing::info!("ready: an executor of the whole cluster runs the steps");
    tokio::select! {
        () = signals.received() => {}
        ended = &mut ports => return Ok(ended??),
    }
    shutdown.cancel();
    drain::replies(&mut ports).await;
    Ok(())
}
