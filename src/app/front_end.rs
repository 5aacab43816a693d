//! The front ends of `serve`: where its steps come from.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::AppError;
use crate::agent::{self, Api, Auth, CallReader, Calls, PatchBudget};
use crate::cluster::{self, Fenced, Replica, TaskRunners};
use crate::config::{Config, NamespaceRules};
use crate::executions::cancellation::{self, Scope};
use crate::executions::{Executions, Room};
use crate::http_templates::HttpTemplates;
use crate::kubernetes::Kubernetes;
use crate::telemetry::Metrics;

/// Where the steps of `serve` come from.
#[derive(Debug)]
pub enum StepSource {
    /// From calls of Argo's agent.
    Agent(Auth),
    /// From the TaskSets of the cluster.
    Cluster(cluster::Settings),
}

/// Everything that a front end needs.
pub(super) struct Context<'a> {
    pub config: &'a Config,
    pub kubernetes: Option<&'a Kubernetes>,
    pub executions: &'a Arc<Executions>,
    pub room: &'a Room,
    pub shutdown: &'a CancellationToken,
    pub metrics: &'a Metrics,
    /// Set when the front end can take steps.
    pub is_ready: &'a Arc<AtomicBool>,
}

/// A front end that is running.
#[derive(Debug)]
pub(super) enum FrontEnd {
    Agent(Calls),
    Cluster {
        /// Cancelled when the replica must give its TaskSets back.
        stop: CancellationToken,
        replica: JoinHandle<Result<(), Fenced>>,
    },
}

impl FrontEnd {
    /// Starts the front end, and returns the routes of the agent's port.
    pub(super) fn start(
        source: &StepSource,
        context: &Context<'_>,
    ) -> Result<(Self, Router), AppError> {
        match source {
            StepSource::Agent(auth) => Ok(serve_agent(auth.clone(), context)),
            StepSource::Cluster(settings) => {
                let kubernetes = context.kubernetes.ok_or(AppError::NoKubernetes)?;
                tokio::spawn(cancellation::watch(
                    kubernetes.clone(),
                    context.executions.registry.clone(),
                    context.config.agent.workflow_poll_interval.0,
                    Scope::Deadlines,
                    context.shutdown.clone(),
                ));
                let replica = Replica::new(
                    settings.clone(),
                    kubernetes.clone(),
                    task_runners(settings, kubernetes, context)?,
                    context.room.clone(),
                    // If the replica ends by itself, the process ends with its error.
                    context.shutdown.child_token(),
                    context.metrics.clone(),
                    Arc::clone(context.is_ready),
                );
                let stop = CancellationToken::new();
                let replica = tokio::spawn(replica.serve(stop.clone()));
                Ok((Self::Cluster { stop, replica }, Router::new()))
            }
        }
    }

    /// Waits until the front end ends by itself, which is always an error.
    pub(super) async fn failed(&mut self) -> AppError {
        match self {
            Self::Agent(_) => std::future::pending().await,
            Self::Cluster { replica, .. } => match replica.await {
                Ok(Ok(())) => AppError::Io(io::Error::other("the replica has ended")),
                Ok(Err(fenced)) => fenced.into(),
                Err(panicked) => panicked.into(),
            },
        }
    }

    /// Gives all work back that other replicas can do, within the time.
    pub(super) async fn drain(&mut self, longest: Duration) {
        if let Self::Cluster { stop, replica } = self {
            stop.cancel();
            if tokio::time::timeout(longest, replica).await.is_err() {
                tracing::warn!("some steps did not end in time: another process runs them again");
            }
        }
    }

    /// Waits until all executions have ended. Cancel the shutdown token first.
    pub(super) async fn finish(self) {
        match self {
            Self::Agent(calls) => calls.finish().await,
            Self::Cluster { replica, .. } if replica.is_finished() => {}
            // A panic of the loop is in the log.
            Self::Cluster { replica, .. } => drop(replica.await),
        }
    }
}

/// The parts that run the tasks of a cluster.
fn task_runners(
    settings: &cluster::Settings,
    kubernetes: &Kubernetes,
    context: &Context<'_>,
) -> Result<TaskRunners, AppError> {
    let config = context.config;
    let http_templates = || {
        HttpTemplates::new(
            kubernetes.clone(),
            config.sources.insecure.iter().cloned(),
            &config.sources.ca,
            NamespaceRules::new(config),
            config.limits.outputs().result,
            context.executions.registry.clone(),
            context.metrics.clone(),
        )
    };
    let http_templates = settings.http_templates.then(http_templates).transpose();
    Ok(TaskRunners {
        executions: Arc::clone(context.executions),
        http_templates: http_templates.map_err(AppError::HttpClient)?.map(Arc::new),
    })
}

fn serve_agent(auth: Auth, context: &Context<'_>) -> (FrontEnd, Router) {
    let settings = context.config.agent;
    let shutdown = context.shutdown;
    if let Some(kubernetes) = context.kubernetes.cloned() {
        tokio::spawn(cancellation::watch(
            kubernetes,
            context.executions.registry.clone(),
            settings.workflow_poll_interval.0,
            Scope::All,
            shutdown.clone(),
        ));
    }
    context.is_ready.store(true, Ordering::Relaxed);
    let calls = Calls::new(settings, context.room.clone(), shutdown.clone());
    let router = agent::router(Api {
        reader: CallReader::new(auth),
        executions: Arc::clone(context.executions),
        calls: calls.clone(),
        patch_budget: PatchBudget::new(settings.patch_rate.0),
    });
    (FrontEnd::Agent(calls), router)
}
