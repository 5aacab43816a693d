//! From a template to a [`Step`], and every check that needs no network.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use artifacts::Location;
use sources::Reference;

use super::plugin::Wasm;
use super::repository::DestinationLookup;
use super::request::Call;
use super::template::{OutputParameter as DeclaredParameter, Template};
use crate::pipeline::is_artifact_name;
use crate::step::GuestPath;
use crate::step::{
    DefaultPlace, InputArtifact, OutputArtifact, OutputParameter, Parameter, Step, StepLimits,
};
use crate::text::DocumentError;

/// What a conversion needs to know besides the call.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// What the operator allows.
    pub limits: StepLimits,
    /// Where artifacts are.
    pub placement: Placement,
}

/// Where artifacts are that name no place of their own.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// The workflow's own place; or why there is none.
    pub place: DestinationLookup,
    /// Inputs that are elsewhere than the template says, by name.
    pub supplied: BTreeMap<String, Location>,
    /// On a person's own machine, where the template says that artifacts are does not count, and outputs are called by their names. What the template
    /// may say is the same.
    pub personal: bool,
}

impl Placement {
    /// The same for a template, which may name a place itself.
    fn of(self, template: &Template) -> Result<Self, DocumentError> {
        let Some(own) = &template.archive_location else {
            return Ok(self);
        };
        let Some(Location {
            repository, key, ..
        }) = own.place("template.archiveLocation")?
        else {
            return Ok(self);
        };
        let archive_logs = own.archive_logs == Some(true);
        let place = DefaultPlace {
            repository,
            key: key.trim_end_matches('/').to_owned(),
            default: false,
            archive_logs,
        };
        Ok(Self {
            place: DestinationLookup::Known(place),
            ..self
        })
    }

    pub(super) fn place(&self, at: &str) -> Result<&DefaultPlace, DocumentError> {
        match &self.place {
            DestinationLookup::Known(place) => Ok(place),
            DestinationLookup::Unavailable(error) => Err(DocumentError::new(at, error.to_string())),
            DestinationLookup::Unknown => Err(DocumentError::new(
                at,
                "no artifact repository is known; the operator sets `artifacts.repository`, or lets the plugin read Workflows",
            )),
        }
    }
}

impl Call {
    /// The module that the template names.
    pub fn module(&self) -> Result<Reference, DocumentError> {
        module(&self.wasm)
    }

    /// The step that the template asks for; and the template, for the reply.
    pub fn into_step(self, conversion: &Conversion) -> Result<(Step, Template), DocumentError> {
        let Self {
            workflow,
            template,
            wasm,
        } = self;
        template.check()?;
        wasm.check_supported()?;
        let module = module(&wasm)?;
        let placement = &conversion.placement.clone().of(&template)?;
        let inputs = inputs(&template, placement)?;
        let place = match placement.place.clone() {
            DestinationLookup::Known(place) => Some(place),
            _ => None,
        };
        let archive_logs = template
            .archive_location
            .as_ref()
            .and_then(|location| location.archive_logs);
        // As Argo has it: the repository's yes cannot be taken back by a template.
        let logs = place.as_ref().is_some_and(|place| place.archive_logs)
            || archive_logs.unwrap_or_default();
        let logs = logs
            .then(|| {
                placement
                    .place("template.archiveLocation")
                    .map(|place| place.below("main.log"))
            })
            .transpose()?;
        let undeclared = place.map(|place| match placement.personal {
            true => place.at(&place.key),
            false => place.below("undeclared"),
        });
        for location in logs.iter().chain(&undeclared) {
            super::artifact::check(location, "template.archiveLocation")?;
        }
        let output_artifacts = output_artifacts(&template, placement, logs.as_ref())?;
        let step = Step {
            parameters: parameters(&template)?,
            output_parameters: output_parameters(&template)?,
            inputs,
            output_artifacts,
            // Apart from declared ones, whatever the module calls them; on one's own machine they are called by their names.
            undeclared_artifacts: undeclared,
            logs,
            limits: lower(&wasm.limits, &conversion.limits),
            timeout: timeout(&template),
            pull_policy: wasm.pull.policy.map(Into::into),
            env: wasm.environment()?,
            pull_secrets: wasm.secrets()?,
            args: wasm.args,
            stdin: wasm.stdin.unwrap_or_default(),
            options: wasm.options,
            template: template.name.clone(),
            module,
            workflow,
        };
        Ok((step, template))
    }
}

fn module(wasm: &Wasm) -> Result<Reference, DocumentError> {
    wasm.reference().map_err(|error| {
        let message = match error.remedy() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        DocumentError::new("template.plugin.wasm.module", message)
    })
}

/// The lower of what is asked and what is allowed.
fn lower(asked: &super::plugin::Limits, allowed: &StepLimits) -> StepLimits {
    let bytes = |asked: Option<crate::text::units::ByteSize>, allowed: u64| {
        asked.map_or(allowed, |asked| asked.0.min(allowed))
    };
    StepLimits {
        memory: bytes(asked.memory, allowed.memory),
        time: asked
            .time
            .map_or(allowed.time, |asked| asked.0.min(allowed.time)),
        output: bytes(asked.output, allowed.output),
        disk: bytes(asked.disk, allowed.disk),
        entries: allowed.entries,
        whole: allowed.whole,
    }
}

/// `0` means no timeout, as in Argo.
fn timeout(template: &Template) -> Option<Duration> {
    let times = [template.timeout, template.active_deadline_seconds]
        .into_iter()
        .flatten();
    times
        .map(|time| time.0)
        .filter(|time| !time.is_zero())
        .min()
}

fn parameters(template: &Template) -> Result<Vec<Parameter>, DocumentError> {
    let parameters = template.inputs.parameters.iter();
    parameters
        .map(|parameter| match parameter.value.clone().or_else(|| parameter.default.clone()) {
            Some(value) => Ok(Parameter { name: parameter.name.clone(), value }),
            None => Err(DocumentError::new(
                format!("template.inputs.parameters.{}", parameter.name),
                "the parameter has no value; give it one where the template is used, or a `default`",
            )),
        })
        .collect()
}

fn guest_path(at: &str, path: Option<&str>) -> Result<GuestPath, DocumentError> {
    let path = path.ok_or_else(|| DocumentError::new(at, "the key `path` is missing"))?;
    path.parse()
        .map_err(|error| DocumentError::new(format!("{at}.path"), format!("{error}")))
}

fn inputs(template: &Template, placement: &Placement) -> Result<Vec<InputArtifact>, DocumentError> {
    unique(&template.inputs.artifacts, "template.inputs.artifacts")?;
    let convert = |artifact: &super::artifact::Artifact| {
        let at = format!("template.inputs.artifacts.{}", artifact.name);
        let (content, optional) = (
            artifact.content(&at, placement)?,
            artifact.optional == Some(true),
        );
        if content.is_none() && !optional {
            let message = match placement.personal {
                true => format!("the artifact is not here; give it with -a {}=HOST_PATH", artifact.name),
                false => "the artifact was not supplied; give it one where the template is used, or make it `optional`"
                    .to_owned(),
            };
            return Err(DocumentError::new(at, message));
        }
        Ok(InputArtifact {
            name: artifact.name.clone(),
            path: guest_path(&at, artifact.path.as_deref())?,
            content,
            unpack: artifact.unpack(placement),
            mode: artifact.permissions(&at)?,
            optional,
        })
    };
    template.inputs.artifacts.iter().map(convert).collect()
}

/// Names are what artifacts are found by.
fn unique(artifacts: &[super::artifact::Artifact], at: &str) -> Result<(), DocumentError> {
    let mut names = HashSet::new();
    match artifacts
        .iter()
        .find(|artifact| !names.insert(&artifact.name))
    {
        Some(twice) => Err(DocumentError::new(
            format!("{at}.{}", twice.name),
            "another artifact has this name too",
        )),
        None => Ok(()),
    }
}

fn output_artifacts(
    template: &Template,
    placement: &Placement,
    logs: Option<&Location>,
) -> Result<Vec<OutputArtifact>, DocumentError> {
    unique(&template.outputs.artifacts, "template.outputs.artifacts")?;
    let mut taken: HashSet<Location> = logs.into_iter().cloned().collect();
    let convert = |artifact: &super::artifact::Artifact| {
        let at = format!("template.outputs.artifacts.{}", artifact.name);
        if !is_artifact_name(&artifact.name) {
            return Err(DocumentError::new(at, "this cannot be an artifact's name"));
        }
        let path = guest_path(&at, artifact.path.as_deref())?;
        let (mut location, pack) = artifact.destination(&at, &path, placement)?;
        // Files of different directories can have one name.
        if !taken.insert(location.clone()) {
            if artifact.names_a_place() {
                return Err(DocumentError::new(
                    at,
                    "another output of this template goes to the same place",
                ));
            }
            location.key = format!("{}-{}", location.key, artifact.name);
            taken.insert(location.clone());
        }
        Ok(OutputArtifact {
            name: artifact.name.clone(),
            path,
            optional: artifact.optional == Some(true),
            location,
            pack,
        })
    };
    template.outputs.artifacts.iter().map(convert).collect()
}

fn output_parameters(template: &Template) -> Result<Vec<OutputParameter>, DocumentError> {
    let mut names = HashSet::new();
    if let Some(twice) = template
        .outputs
        .parameters
        .iter()
        .find(|declared| !names.insert(&declared.name))
    {
        let at = format!("template.outputs.parameters.{}", twice.name);
        return Err(DocumentError::new(
            at,
            "another parameter has this name too",
        ));
    }
    let convert = |declared: &DeclaredParameter| {
        let at = format!("template.outputs.parameters.{}", declared.name);
        let from = declared.value_from.clone().unwrap_or_default();
        if let Some(kind) = from.unsupported() {
            let message =
                format!("`{kind}` does not work for plugin templates; use `path` or `supplied`");
            return Err(DocumentError::new(format!("{at}.valueFrom"), message));
        }
        let path = from
            .path
            .as_deref()
            .map(|path| guest_path(&format!("{at}.valueFrom"), Some(path)))
            .transpose()?;
        Ok(OutputParameter {
            name: declared.name.clone(),
            value: declared.value.clone(),
            path,
            default: from.default,
        })
    };
    template.outputs.parameters.iter().map(convert).collect()
}
