//! `inspect`

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use sources::PullPolicy;

use super::settings::Common;
use super::{Exit, Failure, output, pull};
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The module: oci://…, https://…#sha256=…, or a file
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

impl Inspect {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let module = pull::fetch(&self.common, &self.reference, PullPolicy::IfNotPresent)?;
        let inspection = runtime::inspect(&module.bytes)
            .map_err(|error| Failure::error(format!("`{}`: {error}", self.reference)))?;
        let kind = if inspection.component { "component" } else { "core module" };
        let (size, digest) = (module.bytes.len(), module.digest.to_string());
        let runs = runs_as(&inspection);
        if self.json {
            let (imports, exports) = (&inspection.imports, &inspection.exports);
            let json = json!({"kind": kind, "runs": runs, "size": size, "digest": digest, "imports": imports, "exports": exports});
            output::data(&format!("{json:#}\n"));
            return Ok(Exit::Succeeded);
        }
        let mut text = format!(
            "kind:    {kind}\nruns as: {}\nsize:    {size} bytes\ndigest:  {digest}\n",
            runs.unwrap_or("nothing: it has no entry point")
        );
        for (title, names) in [("imports", &inspection.imports), ("exports", &inspection.exports)] {
            let _ = writeln!(text, "{title}:");
            for name in names {
                let _ = writeln!(text, "  {name}");
            }
        }
        output::data(&text);
        Ok(Exit::Succeeded)
    }
}

/// How the executor would run it.
fn runs_as(inspection: &runtime::Inspection) -> Option<&'static str> {
    let exports = |prefix: &str| inspection.exports.iter().any(|name| name.starts_with(prefix));
    if !inspection.component {
        return inspection.exports.iter().any(|name| name == "_start").then_some("command (WASI 0.1)");
    }
    if inspection.exports.iter().any(|name| name == "run") {
        return Some("step");
    }
    match (exports("wasi:cli/run@0.3."), exports("wasi:cli/run@0.2.")) {
        (true, _) => Some("command (WASI 0.3)"),
        (_, true) => Some("command (WASI 0.2)"),
        _ => None,
    }
}
