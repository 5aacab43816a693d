//! `config check`

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::sync::watch;

use super::settings::{self, Common};
use super::{Exit, Failure, output};
use crate::app;
use crate::pipeline::FullResults;

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
            let results_full = watch::channel(FullResults::default()).1;
            app::set_up(sources, stores, &config, &directories, results_full).map(drop)?;
            Ok::<_, Failure>(())
        })?;
        let mut printed = serde_json::to_value(&config).map_err(Failure::error)?;
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
