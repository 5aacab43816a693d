//! The step that a command line describes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use artifacts::{Location, Repository};
use serde_json::Value;

use super::artifact_flags;
use super::flags::RunStep;
use super::template_edits::{self, Side};
use crate::argo::plugin::ResultFormat;
use crate::argo::repository::DestinationLookup;
use crate::argo::{self, ArtifactContext, Call, Conversion, Template};
use crate::cli::Failure;
use crate::cli::arguments::unique;
use crate::cli::template::{self, LoadedTemplate};
use crate::config::{Config, NamespaceRules};
use crate::step::{ArtifactDestination, Step, Workflow};

/// A step, and the template that Argo's reply needs.
#[derive(Debug)]
pub(super) struct PreparedStep {
    pub(super) step: Step,
    pub(super) template: Template,
    pub(super) result: ResultFormat,
    /// Names of the parameters of the command line that nothing in the template refers to.
    pub(super) unread: Vec<String>,
}

/// Makes the step. `repository` is the operator's artifact repository, if one is configured.
pub(super) fn prepare(
    flags: &RunStep,
    config: &Config,
    repository: DestinationLookup,
) -> Result<PreparedStep, Failure> {
    let LoadedTemplate {
        mut template,
        workflow,
        unread,
    } = load(flags)?;
    if flags.template.is_some() && flags.reference.is_some() {
        // The template's own module is not used, but a mistake in it is an error in Argo.
        let own = argo::from_template(workflow.clone(), &template)?;
        own.map(|call| call.module()).transpose()?;
    }
    template_edits::check_lists(&template)?;
    if flags.template.is_some() {
        check_declared(flags, &template)?;
    }
    check_targets(flags, &template, &repository)?;
    let supplied = artifact_flags::supply(&flags.artifacts, &mut template)?;
    template_edits::apply(flags, &mut template)?;
    let call = argo::from_template(workflow, &template)?;
    let call = call.ok_or_else(|| Failure::usage("the template has no `plugin.wasm`"))?;
    let prepared = convert(flags, config, call, artifacts(flags, repository, supplied)?)?;
    Ok(PreparedStep { unread, ..prepared })
}

/// Refuses artifacts of the command line that the template does not declare: in a cluster, the
/// module would not have them.
fn check_declared(flags: &RunStep, template: &Value) -> Result<(), Failure> {
    let given = [
        ("-a", "input", Side::Inputs, &flags.artifacts),
        ("-o", "output", Side::Outputs, &flags.outputs),
    ];
    for (flag, kind, side, artifacts) in given {
        let declared = template_edits::artifact_names(template, side);
        let unknown = artifacts
            .iter()
            .find(|artifact| !declared.contains(&artifact.name.as_str()));
        if let Some(artifact) = unknown {
            let name = &artifact.name;
            let has = match declared.as_slice() {
                [] => "none".to_owned(),
                declared => declared.join(", "),
            };
            return Err(Failure::usage(format!(
                "{flag} {name}=…: the template has no {kind} artifact `{name}`; it has {has}"
            ))
            .with_hint(format!(
                "declare it under `{kind}s.artifacts` of the template"
            )));
        }
    }
    Ok(())
}

/// Refuses output artifacts whose file in the output directory is a directory, before the module
/// runs.
fn check_targets(
    flags: &RunStep,
    template: &Value,
    repository: &DestinationLookup,
) -> Result<(), Failure> {
    if !matches!(repository, DestinationLookup::Unknown) {
        return Ok(());
    }
    let declared = template_edits::artifact_names(template, Side::Outputs);
    let flags_outputs = flags.outputs.iter().map(|output| output.name.as_str());
    for name in declared.into_iter().chain(flags_outputs) {
        let target = flags.output_directory().join(name);
        if target.is_dir() {
            let message = format!(
                "the output artifact `{name}` cannot be written to `{}`, which is a directory",
                target.display()
            );
            return Err(Failure::usage(message)
                .with_hint("choose another directory with --output-dir, or rename the artifact"));
        }
    }
    Ok(())
}

fn load(flags: &RunStep) -> Result<LoadedTemplate, Failure> {
    let parameters = unique("-p", &flags.parameters)?;
    unique("-a", &flags.artifacts)?;
    unique("-o", &flags.outputs)?;
    unique("--env", &flags.env)?;
    if let Some(from) = &flags.template {
        let (file, name) = match from.split_once('#') {
            Some((file, name)) => (file, Some(name)),
            None => (from.as_str(), None),
        };
        return template::load(Path::new(file), name, &parameters);
    }
    Ok(LoadedTemplate {
        template: template_edits::empty_template(&parameters),
        unread: parameters.into_keys().collect(),
        workflow: Workflow {
            name: "run".to_owned(),
            namespace: "default".to_owned(),
            uid: String::new(),
        },
    })
}

/// Where the artifacts are: in the operator's repository, or else in the output directory.
fn artifacts(
    flags: &RunStep,
    repository: DestinationLookup,
    supplied: BTreeMap<String, Location>,
) -> Result<ArtifactContext, Failure> {
    let directory = std::path::absolute(flags.output_directory()).map_err(Failure::usage)?;
    let local = matches!(repository, DestinationLookup::Unknown);
    let destination = match repository {
        DestinationLookup::Unknown => DestinationLookup::Known(ArtifactDestination {
            repository: Repository::directory(directory),
            key: String::new(),
            default: true,
            archive_logs: false,
        }),
        known => known,
    };
    Ok(ArtifactContext {
        destination,
        supplied,
        local,
    })
}

fn convert(
    flags: &RunStep,
    config: &Config,
    call: Box<Call>,
    artifacts: ArtifactContext,
) -> Result<PreparedStep, Failure> {
    // An artifact that only the module names is written to a file with this name. In the current
    // directory the module could overwrite any file, so the user must name a directory.
    let refuse_undeclared = flags.output_dir.is_none() && artifacts.local;
    let conversion = Conversion {
        limits: NamespaceRules::new(config).limits(&call.workflow.namespace),
        artifacts,
    };
    let result = call.wasm.result;
    let (mut step, template) = call.into_step(&conversion)?;
    if refuse_undeclared {
        step.undeclared_artifacts = None;
    }
    let impossible = flags
        .limit_time
        .and_then(argo::impossible_time)
        .or_else(|| flags.limit_memory.and_then(argo::impossible_memory));
    if let Some(limit) = impossible {
        let message = format!("--limit-{} {}", limit.key, limit.rule);
        return Err(Failure::usage(message));
    }
    if let Some(time) = within("time", flags.limit_time, config.limits.time)? {
        step.limits.time = time.0;
    }
    if let Some(memory) = within("memory", flags.limit_memory, config.limits.memory)? {
        step.limits.memory = memory.0;
    }
    Ok(PreparedStep {
        step,
        template,
        result,
        unread: Vec::new(),
    })
}

/// A limit of the command line. It replaces the template's limit, and cannot be higher than the
/// operator's limit either.
fn within<T: Copy + PartialOrd + fmt::Display>(
    name: &str,
    requested: Option<T>,
    allowed: T,
) -> Result<Option<T>, Failure> {
    match requested {
        Some(requested) if requested > allowed => Err(Failure::usage(format!(
            "--limit-{name} {requested} is above `limits.{name}` of the configuration, {allowed}"
        ))
        .with_hint(
            "raise the limit in a file, and name the file with --config; `config check` prints the \
             configuration in force",
        )),
        requested => Ok(requested),
    }
}
