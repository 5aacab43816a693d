//! `pull`

use std::path::PathBuf;

use clap::Args;
use sources::{Asker, Module, PullPolicy, Request, Resolved};

use super::progress::Line;
use super::settings::{self, Common};
use super::{Exit, Failure, output};

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The module: oci://…, https://…#sha256=…, or a file
    reference: String,
    /// Also write the module to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Pull {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (_, module) = fetch(&self.common, &self.reference, PullPolicy::Always)?;
        if let Some(file) = &self.output {
            std::fs::write(file, &module.bytes)
                .map_err(|error| Failure::error(format!("`{}`: {error}", file.display())))?;
        }
        output::say(&format!("{} bytes", module.bytes.len()));
        output::data(&format!("{}\n", module.package.module));
        Ok(Exit::Succeeded)
    }
}

/// Resolves and fetches, with progress on a terminal.
pub(super) fn fetch(common: &Common, reference: &str, policy: PullPolicy) -> Result<(Resolved, Module), Failure> {
    let config = common.start(Some("off"))?;
    let request = Request {
        reference: settings::reference(reference)?,
        pull_policy: Some(policy),
        scope: String::new(),
        asker: Asker::default(),
    };
    let line = Line::new("resolving");
    let fetched = settings::runtime()?.block_on(async {
        let sources = common.sources(&config, &common.directories(false)?, true, line.shared()).await?;
        let resolved = sources.resolve(&request).await?;
        let module = sources.fetch(&resolved, &request.asker).await?;
        Ok(((*resolved).clone(), module))
    });
    line.done();
    fetched
}
