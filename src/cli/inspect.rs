//! `inspect`

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use sources::PullPolicy;

use super::fetcher::{self, Fetched};
use super::settings::Common;
use super::{Exit, Failure, output};
use crate::runtime::{self, Kind};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Module: oci://…, https://…, wapm://…, bindle://…, wkg:…, or a file
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Inspect {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Fetched { resolved, module } =
            fetcher::fetch(&self.common, &self.reference, PullPolicy::IfNotPresent)?;
        let inspection = runtime::inspect(&module.bytes)
            .map_err(|error| Failure::error(format!("`{}`: {error}", self.reference)))?;
        let kind = if inspection.component {
            "component"
        } else {
            "core module"
        };
        let size = module.bytes.len();
        let digest = module.package.module.to_string();
        let runs = inspection.kind().map(runs_as);
        let pinned = resolved.pinned().map(|reference| reference.to_string());
        if self.json {
            let json = json!({
                "kind": kind,
                "runs": runs,
                "size": size,
                "digest": digest,
                "pinned": pinned,
                "imports": inspection.imports,
                "exports": inspection.exports,
            });
            output::data(&format!("{json:#}\n"));
            return Ok(Exit::Succeeded);
        }
        let mut text = format!(
            "kind:    {kind}\nruns as: {}\nsize:    {size} bytes\ndigest:  {digest}\n",
            runs.unwrap_or("nothing, because the module has no entry point")
        );
        if let Some(pinned) = pinned {
            let _ = writeln!(text, "pinned:  {pinned}");
        }
        for (title, names) in [
            ("imports", &inspection.imports),
            ("exports", &inspection.exports),
        ] {
            let _ = writeln!(text, "{title}:");
            for name in names {
                let _ = writeln!(text, "  {name}");
            }
        }
        output::data(&text);
        Ok(Exit::Succeeded)
    }
}

/// How the executor runs a module of this kind.
fn runs_as(kind: Kind) -> &'static str {
    match kind {
        Kind::CoreCommand => "command (WASI 0.1)",
        Kind::Command => "command (WASI 0.2)",
        Kind::CommandP3 => "command (WASI 0.3)",
        Kind::Step => "step",
    }
}
