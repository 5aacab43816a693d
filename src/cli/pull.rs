//! `pull`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sources::{FetchedModule, PullPolicy, Reference, Request, Requester, Resolved, Sources};
use tokio::runtime::Runtime;

use super::progress::Line;
use super::settings::{self, Common};
use super::{Exit, Failure, output};
use crate::config::Config;
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The module: oci://…, https://…, wapm://…, bindle://…, wkg:…, or a file
    reference: String,
    /// Also write the module to this file
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Pull {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let (resolved, module) = fetch(&self.common, &self.reference, PullPolicy::Always)?;
        runtime::inspect(&module.bytes)
            .map_err(|error| Failure::error(format!("`{}`: {error}", self.reference)))?;
        if let Some(file) = &self.output {
            std::fs::write(file, &module.bytes).map_err(|error| {
                Failure::error(format!(
                    "--output `{}` cannot be written: {error}",
                    file.display()
                ))
            })?;
        }
        // What a template names, so that it runs this module and no other.
        let pinned = resolved
            .pinned()
            .map_or_else(String::new, |pinned| format!(" of {pinned}"));
        output::say(&format!("{} bytes{pinned}", module.bytes.len()));
        output::data(&format!("{}\n", module.package.module));
        Ok(Exit::Succeeded)
    }
}

/// Fetches one module.
pub(super) fn fetch(
    common: &Common,
    reference: &str,
    policy: PullPolicy,
) -> Result<(Arc<Resolved>, FetchedModule), Failure> {
    let (config, reference) = (common.start(Some("off"))?, settings::reference(reference)?);
    Fetcher::new(common, &config)?.fetch(reference, policy)
}

/// Resolves and fetches, with progress on a terminal.
#[derive(Debug)]
pub(super) struct Fetcher {
    runtime: Runtime,
    sources: Sources,
    line: Line,
}

impl Fetcher {
    pub(super) fn new(common: &Common, config: &Config) -> Result<Self, Failure> {
        let (runtime, line, directories) = (
            settings::runtime()?,
            Line::new("resolving"),
            common.directories(false)?,
        );
        let sources = runtime.block_on(async {
            let kubernetes = common.kubernetes().await?;
            common.sources(config, &directories, kubernetes, true, line.shared())
        });
        Ok(Self {
            runtime,
            sources: sources.inspect_err(|_| line.done())?,
            line,
        })
    }

    /// Whether the module is in a file of this machine.
    pub(super) fn is_local(&self, reference: &Reference) -> bool {
        self.sources.is_local(reference)
    }

    pub(super) fn fetch(
        &self,
        reference: Reference,
        policy: PullPolicy,
    ) -> Result<(Arc<Resolved>, FetchedModule), Failure> {
        let request = Request {
            reference,
            pull_policy: Some(policy),
            scope: String::new(),
            requester: Requester::default(),
        };
        self.runtime.block_on(async {
            let resolved = self.sources.resolve(&request).await?;
            let module = self.sources.fetch(&resolved, &request.requester).await?;
            Ok((resolved, module))
        })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.line.done();
    }
}
