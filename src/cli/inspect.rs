//! `inspect`

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use sources::PullPolicy;

use super::fetcher::{self, Fetched};
use super::settings::{Base, Cache, Common, Registries};
use super::{Exit, Failure, output};
use crate::runtime::{self, Inspection, Kind, ModuleError};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Module: oci://…, https://…, wapm://…, bindle://…, wkg:…, or a file
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    cache: Cache,
}

impl Inspect {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let common = Common::of(self.base, self.registries, self.cache);
        let Fetched { resolved, module } =
            fetcher::fetch(&common, &self.reference, PullPolicy::IfNotPresent)?;
        let bytes = &module.bytes;
        let inspection = runtime::inspect(bytes).map_err(|error| {
            Failure::error(format!("`{}`: {error}", self.reference)).with_hint(error.hint())
        })?;
        let shown = Shown {
            kind: if inspection.component {
                "component"
            } else {
                "core module"
            },
            runs: runs(&inspection, bytes),
            size: bytes.len(),
            digest: module.package.module.to_string(),
            pinned: resolved.pinned().map(|reference| reference.to_string()),
            trapping: runtime::trapping_imports(&inspection).map_err(Failure::error)?,
            inspection,
        };
        output::data(&match self.json {
            true => format!("{:#}\n", shown.json()),
            false => shown.text(),
        });
        Ok(Exit::Succeeded)
    }
}

/// How the executor runs a module, or why it does not.
pub(super) fn runs(inspection: &Inspection, bytes: &[u8]) -> Result<&'static str, ModuleError> {
    let kind = inspection.kind()?;
    runtime::validate(bytes)?;
    Ok(runs_as(kind))
}

/// Everything that the command prints.
struct Shown {
    kind: &'static str,
    runs: Result<&'static str, ModuleError>,
    size: usize,
    digest: String,
    pinned: Option<String>,
    /// The imports that trap when the module calls them.
    trapping: Vec<String>,
    inspection: Inspection,
}

impl Shown {
    fn json(&self) -> serde_json::Value {
        let refused = self.runs.as_ref().err();
        json!({
            "kind": self.kind,
            "runs": self.runs.as_ref().ok(),
            "refused": refused.map(ToString::to_string),
            "hint": refused.map(ModuleError::hint),
            "size": self.size,
            "digest": self.digest,
            "pinned": self.pinned,
            "imports": self.inspection.import_names(),
            "trapsWhenCalled": self.trapping,
            "exports": self.inspection.export_names(),
        })
    }

    fn text(&self) -> String {
        let runs = match &self.runs {
            Ok(runs) => (*runs).to_owned(),
            Err(error) => format!("nothing, because {error}\nhint:    {}", error.hint()),
        };
        let mut text = format!(
            "kind:    {}\nruns as: {runs}\nsize:    {} bytes\ndigest:  {}\n",
            self.kind, self.size, self.digest
        );
        if let Some(pinned) = &self.pinned {
            let _ = writeln!(text, "pinned:  {pinned}");
        }
        text.push_str("imports:\n");
        for name in self.inspection.import_names() {
            let functions = self
                .trapping
                .iter()
                .filter_map(|trapping| trapping.strip_prefix(&name)?.strip_prefix('#'));
            let functions = functions.collect::<Vec<_>>().join(", ");
            let _ = match (self.trapping.contains(&name), functions.as_str()) {
                (true, _) => writeln!(text, "  {name} (not offered; traps when called)"),
                (false, "") => writeln!(text, "  {name}"),
                (false, _) => writeln!(text, "  {name} (not offered: {functions})"),
            };
        }
        text.push_str("exports:\n");
        for name in self.inspection.export_names() {
            let _ = writeln!(text, "  {name}");
        }
        text
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
