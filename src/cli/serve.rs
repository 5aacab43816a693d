//! `serve`

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use artifacts::Stores;
use axum::serve::ListenerExt;
use clap::Args;
use sources::Sources;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::settings::{Common, Directories};
use super::{Exit, Failure};
use crate::agent::{self, Api, Auth};
use crate::agent::{Jobs, Pacing};
use crate::argo::repository::Repositories;
use crate::config::Config;
use crate::executions::cancellation;
use crate::pipeline::Executor;

/// How long a stopping server waits for its last replies. Kubernetes kills it after 30 s.
const DRAIN: Duration = Duration::from_secs(5);
/// How long it waits then for uploads that are taken back.
const TAKE_BACK: Duration = Duration::from_secs(3);

/// How long for steps' directories to be removed.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// By which the AWS SDK finds credentials in the environment.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_PROFILE",
];

/// Where Argo's init container writes the token, as the sidecar sees it.
const TOKEN_FILE: &str = "/var/run/argo/token";

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7884", env = "WASM_WORKFLOW_BIND", value_parser = address)]
    bind: SocketAddr,
    /// The file with the token that callers must have; the token may be in WASM_WORKFLOW_TOKEN instead
    /// [default: /var/run/argo/token]
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Let everybody call; only where nobody else can: on a loopback address
    #[arg(long, env = "WASM_WORKFLOW_NO_TOKEN")]
    no_token: bool,
    #[command(flatten)]
    common: Common,
}

impl Serve {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let config = self.common.start(None)?;
        let auth = self.auth()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // Every archive on its way has one, and what it waits for may want another.
            .max_blocking_threads(4096)
            .build()
            .map_err(|error| Failure::error(format!("cannot start threads: {error}")))?;
        let served = runtime.block_on(serve(self.bind, auth, config, &self.common));
        // A guest that ignores its interruption must not keep the process.
        runtime.shutdown_background();
        served.map(|()| Exit::Succeeded)
    }

    fn auth(&self) -> Result<Auth, Failure> {
        if self.no_token {
            return match self.bind.ip().is_loopback() {
                true => Ok(Auth::Open),
                false => Err(Failure::usage(format!(
                    "--no-token needs a loopback address, and {} is none\nhint: add --bind 127.0.0.1:7884",
                    self.bind
                ))),
            };
        }
        let token = match (&self.token_file, env::var("WASM_WORKFLOW_TOKEN")) {
            (None, Ok(token)) => token,
            (file, _) => read_token(file.as_deref().unwrap_or(Path::new(TOKEN_FILE)))?,
        };
        match token.trim() {
            "" => Err(Failure::usage(match &self.token_file {
                Some(file) => format!("the token file `{}` is empty", file.display()),
                None if env::var_os("WASM_WORKFLOW_TOKEN").is_some() => {
                    "WASM_WORKFLOW_TOKEN is empty".to_owned()
                }
                None => format!("the token file `{TOKEN_FILE}` is empty"),
            })),
            token => Ok(Auth::Token(token.to_owned())),
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an address and a port, such as 127.0.0.1:7884 or [::1]:7884".to_owned()
    })
}

fn read_token(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let file = file.display();
        Failure::usage(format!(
            "the token file `{file}` cannot be read: {error}\n\
             hint: Argo writes it for user 8737; to try without one, use --no-token --bind 127.0.0.1:7884"
        ))
    })
}

async fn serve(
    bind: SocketAddr,
    auth: Auth,
    config: Config,
    common: &Common,
) -> Result<(), Failure> {
    let directories = common.directories(true)?;
    // Before anything slow: the agent gives up on a port that is closed for 15 s.
    let listener = TcpListener::bind(bind)
        .await
        .map_err(|error| Failure::error(format!("cannot listen on {bind}: {error}")))?;
    let address = listener.local_addr().map_err(Failure::error)?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::error)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::error)?;

    let (publish, executor) = watch::channel(None);
    let shutdown = CancellationToken::new();
    let kubernetes = common.kubernetes().await?;
    let jobs = Jobs::new(config.agent, shutdown.clone());
    let api = Api {
        auth,
        limits: config.step_limits(),
        repositories: Repositories::new(
            kubernetes.clone(),
            config.artifacts.repository.clone(),
            config.artifacts.controller_namespace.clone(),
        ),
        executor,
        jobs: jobs.clone(),
        pacing: Pacing::new(config.agent.patch_rate.0),
    };
    if let Some(kubernetes) = kubernetes.clone() {
        tokio::spawn(cancellation::watch(
            kubernetes,
            jobs.clone(),
            config.agent.workflow_poll_interval.0,
            shutdown.clone(),
        ));
    }
    let stopping = shutdown.clone();
    let server = axum::serve(
        listener.tap_io(|stream| {
            // Replies are small, and the agent waits for them.
            let _ = stream.set_nodelay(true);
        }),
        agent::router(api),
    )
    .with_graceful_shutdown(async move { stopping.cancelled().await });
    let mut server = tokio::spawn(async move { server.await });

    let stores = Common::stores(&config, kubernetes.clone());
    let opened = stores.clone();
    let sources = common.sources(&config, &directories, kubernetes, false, Arc::new(()))?;
    let setting_up =
        tokio::task::spawn_blocking(move || set_up(sources, stores, &config, &directories));
    let set_up = tokio::select! {
        set_up = setting_up => Some(set_up.map_err(Failure::error)??),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let Some(executor) = set_up.map(Arc::new) else {
        shutdown.cancel();
        let _ = tokio::time::timeout(DRAIN, &mut server).await;
        return Ok(());
    };
    publish.send_replace(Some(Arc::clone(&executor)));
    tracing::info!("ready");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut server => return ended.map_err(Failure::error)?.map_err(Failure::error),
    }
    tracing::info!("stopping: steps are interrupted");
    shutdown.cancel();
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        tracing::warn!("some callers did not take their replies in time");
    }
    let ended = async {
        jobs.finish().await;
        opened.close().await;
    };
    if tokio::time::timeout(TAKE_BACK, ended).await.is_err() {
        tracing::warn!(
            "not everything ended in time: uploads that were begun may stay in their buckets, unfinished"
        );
    }
    let cleaning = tokio::task::spawn_blocking(move || executor.clean_up());
    if tokio::time::timeout(CLEAN_UP, cleaning).await.is_err() {
        tracing::warn!(
            "directories of steps are left; whoever starts next with this scratch directory removes them"
        );
    }
    Ok(())
}

/// Everything that takes time.
pub(super) fn set_up(
    sources: Sources,
    stores: Stores,
    config: &Config,
    directories: &Directories,
) -> Result<Executor, Failure> {
    let executor = Executor::new(sources, stores, directories.settings(config, config.capacity.steps)).map_err(|error| {
        let steps = config.capacity.steps;
        Failure::error(format!(
            "the executor cannot be set up: {error:#}\n\
             hint: it takes address space and mappings for `capacity.steps: {steps}` steps at once; lower it, or raise the machine's vm.max_map_count"
        ))
    })?;
    if let Err(error) = executor.check_scratch() {
        let directory = directories.scratch.display();
        tracing::warn!(%directory, %error, "steps that use files cannot run: their directories cannot be made here");
    }
    if config.limits.memory > config.capacity.memory {
        let limit = config.capacity.memory;
        tracing::warn!(%limit, "a step gets at most `capacity.memory`, and then runs alone");
    }
    let bucket = config
        .artifacts
        .repository
        .as_ref()
        .and_then(|repository| repository.s3.as_ref());
    if bucket.is_some_and(|bucket| bucket.access_key_secret.is_none())
        && CREDENTIALS.iter().all(|name| env::var_os(name).is_none())
    {
        tracing::warn!(
            "the artifact repository names no keys, and the environment has none: a role of this machine is what is left"
        );
    }
    if let Err(error) = directories.store(config).check() {
        tracing::warn!(%error, "modules cannot be fetched: there is no place to keep them");
    }
    Ok(executor)
}
