//! `config check`

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::watch;

use super::settings::{self, Common};
use super::{Exit, Failure, output};
use crate::app::{self, SharedWithFrontEnd};
use crate::pipeline::FullResults;
use crate::telemetry::Metrics;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration as `serve` would, and print the configuration in force
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
}

impl ConfigCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Self::Check(Check { common }) = self;
        let config = common.start(Some("warn"))?;
        let directories = common.directories(true)?;
        // The same setup as in `serve`: a configuration that passes here also starts there.
        settings::runtime()?.block_on(async {
            let kubernetes = common.kubernetes()?;
            let stores = Common::stores(&config, kubernetes.clone());
            let sources = common.sources(&config, &directories, kubernetes, false, Arc::new(()))?;
            let shared = SharedWithFrontEnd {
                results_full: watch::channel(FullResults::default()).1,
                has_tenants: false,
                metrics: Metrics::new(config.capacity.steps),
            };
            app::set_up(sources, stores, &config, &directories, shared).map(drop)?;
            Ok::<_, Failure>(())
        })?;
        let mut in_force = config.clone();
        in_force.limits.compile.memory.0 = config.step_limits(&config.limits).compile.memory;
        let mut printed = serde_json::to_value(&in_force).map_err(Failure::error)?;
        // The directories are flags, and not part of the document.
        let flags = json!({
            "cacheDir": directories.cache,
            "codeDir": directories.code,
            "scratchDir": directories.scratch,
        });
        if let Some(printed) = printed.as_object_mut() {
            printed.insert("directories".to_owned(), flags);
        }
        output::data(&serde_saphyr::to_string(&printed).map_err(Failure::error)?);
        Ok(Exit::Succeeded)
    }
}
