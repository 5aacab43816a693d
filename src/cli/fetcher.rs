//! Fetches modules for the commands that do not run them.

use std::sync::Arc;

use sources::{FetchedModule, PullPolicy, Reference, Request, Requester, Resolved, Sources};
use tokio::runtime::Runtime;

use super::Failure;
use super::progress::Spinner;
use super::settings::{self, Common};
use crate::config::Config;

/// A fetched module, and the reference that it was resolved from.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) resolved: Arc<Resolved>,
    pub(super) module: FetchedModule,
}

/// Resolves and fetches modules, and shows the progress on a terminal.
#[derive(Debug)]
pub(super) struct Fetcher {
    runtime: Runtime,
    sources: Sources,
    spinner: Spinner,
}

impl Fetcher {
    pub(super) fn new(common: &Common, config: &Config) -> Result<Self, Failure> {
        let runtime = settings::runtime()?;
        let directories = common.directories(false)?;
        let spinner = Spinner::new("resolving");
        let sources = runtime.block_on(async {
            let kubernetes = common.kubernetes()?;
            common.sources(config, &directories, kubernetes, true, spinner.shared())
        });
        Ok(Self {
            runtime,
            sources: sources.inspect_err(|_| spinner.clear())?,
            spinner,
        })
    }

    /// Whether the module is in a file of this machine.
    pub(super) fn is_local(&self, reference: &Reference) -> bool {
        self.sources.is_local(reference)
    }

    /// Fetches one module.
    pub(super) fn fetch(
        &self,
        reference: Reference,
        policy: PullPolicy,
    ) -> Result<Fetched, Failure> {
        let request = Request {
            reference,
            pull_policy: Some(policy),
            scope: String::new(),
            requester: Requester::default(),
        };
        self.runtime.block_on(async {
            let resolved = self.sources.resolve(&request).await?;
            let module = self.sources.fetch(&resolved, &request.requester).await?;
            Ok(Fetched { resolved, module })
        })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.spinner.clear();
    }
}

/// Fetches the one module that a command line names.
pub(super) fn fetch(
    common: &Common,
    reference: &str,
    policy: PullPolicy,
) -> Result<Fetched, Failure> {
    let config = common.start(Some("off"))?;
    let reference = settings::reference(reference)?;
    Fetcher::new(common, &config)?.fetch(reference, policy)
}
