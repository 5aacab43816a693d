//! `pull`

use std::path::PathBuf;

use clap::Args;
use sources::PullPolicy;

use super::fetcher::{self, Fetched};
use super::settings::{Base, Cache, Common, Registries};
use super::{Exit, Failure, output};
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// Module: oci://…, https://…, wapm://…, bindle://…, wkg:…, or a file
    reference: String,
    /// File to which the module is also written
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    cache: Cache,
}

impl Pull {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let common = Common::of(self.base, self.registries, self.cache);
        let Fetched { resolved, module } =
            fetcher::fetch(&common, &self.reference, PullPolicy::Always)?;
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
        // A template with the pinned reference always runs this module.
        let pinned = resolved
            .pinned()
            .map_or_else(String::new, |pinned| format!(" of {pinned}"));
        output::eprint(&format!("{} bytes{pinned}", module.bytes.len()));
        output::data(&format!("{}\n", module.package.module));
        Ok(Exit::Succeeded)
    }
}
