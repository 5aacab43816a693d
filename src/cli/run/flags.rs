//! The flags of `run`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::arguments::{NameValue, name_value};
use crate::cli::settings::Common;
use crate::step::is_artifact_name;
use crate::text::units::{ByteSize, Time};

#[derive(Debug, Args)]
pub(in crate::cli) struct RunStep {
    /// Module: a file, oci://…, https://…, wapm://…, bindle://…, wkg:… or file://…; with --template, it replaces the module of the template
    #[arg(required_unless_present = "template")]
    pub(super) reference: Option<String>,
    /// File with a Workflow, a WorkflowTemplate, a CronWorkflow or a template; #TEMPLATE chooses one of several templates
    #[arg(long, value_name = "FILE[#TEMPLATE]")]
    pub(super) template: Option<String>,
    /// Input parameter; with --template also a parameter of the workflow; repeatable
    #[arg(short = 'p', long = "parameter", value_name = "NAME=VALUE", value_parser = name_value)]
    pub(super) parameters: Vec<NameValue>,
    /// Input artifact; with --template, the template must declare it, and GUEST_PATH may be omitted; repeatable
    #[arg(short = 'a', long = "artifact", value_name = "NAME=HOST_PATH:GUEST_PATH", value_parser = input)]
    pub(super) artifacts: Vec<NameValue>,
    /// Output artifact; with --template, the template must declare it; repeatable
    #[arg(short = 'o', long = "output", value_name = "NAME=GUEST_PATH", value_parser = output)]
    pub(super) outputs: Vec<NameValue>,
    /// Directory for output artifacts, each in a file with its name; without it, declared artifacts go to the current directory, and others are refused
    #[arg(long, value_name = "DIR")]
    pub(super) output_dir: Option<PathBuf>,
    /// Environment variable of the module; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value)]
    pub(super) env: Vec<NameValue>,
    /// File with the standard input of the module
    #[arg(long, value_name = "FILE|-")]
    pub(super) stdin: Option<PathBuf>,
    /// Running time of the module; replaces `limits.time` of the template
    #[arg(long, value_name = "DURATION")]
    pub(super) limit_time: Option<Time>,
    /// Memory of the module; replaces `limits.memory` of the template
    #[arg(long, value_name = "BYTES")]
    pub(super) limit_memory: Option<ByteSize>,
    /// Print the node result that Argo would get, and nothing else
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) common: Common,
    /// Arguments of the module
    #[arg(last = true)]
    pub(super) args: Vec<String>,
}

impl RunStep {
    /// Directory for output artifacts.
    pub(super) fn output_directory(&self) -> &Path {
        self.output_dir.as_deref().unwrap_or(Path::new("."))
    }
}

fn input(text: &str) -> Result<NameValue, String> {
    name_value(text).map_err(|_| {
        "it must look like NAME=HOST_PATH:GUEST_PATH, such as text=notes.txt:/in/text".to_owned()
    })
}

fn output(text: &str) -> Result<NameValue, String> {
    let artifact = name_value(text)
        .map_err(|_| "it must look like NAME=GUEST_PATH, such as copy=/out/copy".to_owned())?;
    match is_artifact_name(&artifact.name) {
        true => Ok(artifact),
        false => Err(format!(
            "`{}` cannot be an artifact's name: it is the name of a file in the output directory",
            artifact.name
        )),
    }
}
