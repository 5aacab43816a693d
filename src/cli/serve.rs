//! `serve`

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args};

use super::cluster_flags::ClusterFlags;
use super::settings::Common;
use super::{Exit, Failure};
use crate::agent::Auth;
use crate::app::{
    App, AppError, Listeners, StepSource, StopSignals, return_freed_memory, stand_aside,
};
use crate::config::Config;
use crate::telemetry;

/// The file that Argo's init container writes the token to, as the sidecar sees it.
const TOKEN_FILE: &str = "/var/run/argo/token";

/// The port for probes.
const ADMIN_PORT: u16 = 7885;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address for Argo's agent
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7884", env = "WASM_WORKFLOW_BIND", value_parser = address)]
    bind: SocketAddr,
    /// Address for probes: /healthz and /readyz [default: port 7885 of the address of --bind]
    #[arg(long, value_name = "ADDRESS", env = "WASM_WORKFLOW_ADMIN_BIND", value_parser = address)]
    admin_bind: Option<SocketAddr>,
    /// The file with the token that callers must send; WASM_WORKFLOW_TOKEN may contain the token instead
    /// [default: /var/run/argo/token]
    #[arg(long, value_name = "FILE", env = "WASM_WORKFLOW_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Allow calls without a token; only with a loopback address
    #[arg(long, env = "WASM_WORKFLOW_NO_TOKEN", conflicts_with = "token_file")]
    no_token: bool,
    /// Whether the log has the output of modules [default: `telemetry.log.moduleOutput` of the configuration, true]
    #[arg(long, value_name = "BOOLEAN", env = "WASM_WORKFLOW_LOG_MODULE_OUTPUT", action = ArgAction::Set)]
    log_module_output: Option<bool>,
    /// Leave all steps to an executor of the whole cluster, which serves the same Workflows
    #[arg(long, env = "WASM_WORKFLOW_STAND_ASIDE", conflicts_with = "cluster")]
    stand_aside: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    common: Common,
}

impl Serve {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut config = self.common.load()?;
        if let Some(log) = self.log_module_output {
            config.telemetry.log.module_output = log;
        }
        let _log = telemetry::start_queued(&config.telemetry.log).map_err(Failure::usage)?;
        return_freed_memory();
        let source = match &self.cluster {
            flags if flags.cluster => StepSource::Cluster(flags.settings(&config)?),
            _ => StepSource::Agent(self.auth()?),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            // Each archive that is transferred blocks a thread, and its content may need another.
            .max_blocking_threads(4096)
            .build()
            .map_err(|error| Failure::error(format!("cannot start threads: {error}")))?;
        let served = runtime.block_on(self.serve(source, config));
        // Does not wait for a guest that ignores its interruption.
        runtime.shutdown_background();
        served.map(|()| Exit::Succeeded)
    }

    async fn serve(self, source: StepSource, config: Config) -> Result<(), Failure> {
        let common = self.common;
        let directories = common.directories(true)?;
        let admin_bind = SocketAddr::new(self.bind.ip(), ADMIN_PORT);
        let admin_bind = self.admin_bind.unwrap_or(admin_bind);
        let agent_bind = (!self.cluster.cluster).then_some(self.bind);
        let listeners = Listeners::bind(agent_bind, admin_bind)?;
        let signals = StopSignals::catch().map_err(AppError::from)?;
        let source = match source {
            StepSource::Agent(auth) if self.stand_aside => {
                return Ok(stand_aside(auth, listeners, signals).await?);
            }
            source => source,
        };
        let kubernetes = common.kubernetes()?;
        let app = App::build(config, directories, kubernetes, source)
            .map_err(|error| common.failure(error))?;
        Ok(app.serve(listeners, signals).await?)
    }

    fn auth(&self) -> Result<Auth, Failure> {
        if self.no_token {
            if env::var_os("WASM_WORKFLOW_TOKEN").is_some() {
                return Err(Failure::usage(
                    "--no-token cannot be used with WASM_WORKFLOW_TOKEN: callers would need no token",
                ));
            }
            return match self.bind.ip().is_loopback() {
                true => Ok(Auth::Open),
                false => Err(Failure::usage(format!(
                    "--no-token needs a loopback address, and {} is not one\nhint: add --bind 127.0.0.1:7884",
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
             hint: Argo writes it for user 8737; to try without a token, use --no-token --bind 127.0.0.1:7884"
        ))
    })
}
