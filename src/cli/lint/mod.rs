//! `lint`: checks the templates of files without running them.
//!
//! `check` finds the mistakes of one template at their `location`, and `variables` those in its
//! variables. Each mistake is a `finding`.

mod check;
mod finding;
mod location;
mod variables;

use std::path::PathBuf;

use clap::Args;

use self::finding::{Finding, Severity};
use super::template::{self, FoundTemplate};
use super::{Exit, Failure, output};

/// The flags of `lint`.
#[derive(Debug, Args)]
pub(super) struct Lint {
    /// Files with Workflows, WorkflowTemplates, CronWorkflows or templates
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Number of findings by their severity.
#[derive(Debug, Default)]
struct Totals {
    templates: usize,
    errors: usize,
    warnings: usize,
}

impl Lint {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut totals = Totals::default();
        for file in &self.files {
            let shown = file.display().to_string();
            let templates = template::find_all(file)?;
            if !templates.iter().any(FoundTemplate::is_wasm) {
                totals.warnings += 1;
                output::data(&format!(
                    "warning: `{shown}` has no template with `plugin.wasm`; write `plugin: {{wasm: …}}`\n"
                ));
            }
            for found in templates {
                totals.templates += usize::from(found.is_wasm());
                for finding in check::check(&found) {
                    totals.add(&finding);
                    output::data(&format!("{}\n", line(&shown, &found, &finding)));
                }
            }
        }
        let Totals {
            templates,
            errors,
            warnings,
        } = totals;
        output::eprint(&format!(
            "templates for this plugin: {templates}, errors: {errors}, warnings: {warnings}"
        ));
        Ok(match errors {
            0 => Exit::Succeeded,
            _ => Exit::Usage,
        })
    }
}

impl Totals {
    fn add(&mut self, finding: &Finding) {
        match finding.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
    }
}

fn line(file: &str, found: &FoundTemplate, finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    format!(
        "{file}: template `{}`: {severity}: {}",
        found.name(),
        finding.message
    )
}
