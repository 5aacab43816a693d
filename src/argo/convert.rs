//! From a template to a [`Step`], and every check that needs no network.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifacts::{Location, Repository};
use sources::Reference;

use super::plugin::Wasm;
use super::request::Call;
use super::template::{OutputParameter as DeclaredParameter, Template};
use crate::document::DocumentError;
use crate::staging::GuestPath;
use crate::step::{
    InputArtifact, OutputArtifact, OutputParameter, Parameter, Step, StepLimits, Workflow, is_artifact_name,
};

/// What a conversion needs to know besides the call.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// What the operator allows.
    pub limits: StepLimits,
    /// Where artifacts are.
    pub placement: Placement,
}

/// Where artifacts are that name no place of their own.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The default repository.
    pub repository: Option<Repository>,
    /// What the keys of this execution's outputs begin with: no other execution's do.
    pub key_prefix: String,
    /// On a person's own machine, the inputs by name: where the template says they are does not count there, and outputs are
    /// called by their names. What the template may say is the same.
    pub supplied: Option<BTreeMap<String, Location>>,
}

impl Placement {
    /// For one execution, whose outputs get keys that no other execution's have.
    pub fn for_execution(repository: Option<Repository>, workflow: &Workflow, template: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let name = &workflow.name;
        let key_prefix = format!("{name}/{name}-{template}-{since:x}{:06x}/", fastrand::u32(..1 << 24));
        Self { repository, key_prefix, supplied: None }
    }

    pub(super) fn repository(&self, at: &str) -> Result<Repository, DocumentError> {
        self.repository.clone().ok_or_else(|| {
            DocumentError::new(at, "no artifact repository is configured; the operator sets `artifacts.repository`")
        })
    }
}

impl Call {
    /// The module that the template names.
    pub fn module(&self) -> Result<Reference, DocumentError> {
        module(&self.wasm)
    }

    /// The step that the template asks for; and the template, for the reply.
    pub fn into_step(self, conversion: &Conversion) -> Result<(Step, Template), DocumentError> {
        let Self { workflow, template, wasm } = self;
        template.check()?;
        wasm.check_supported()?;
        let module = module(&wasm)?;
        let placement = &conversion.placement;
        let inputs = inputs(&template, placement)?;
        let output_artifacts = output_artifacts(&template, placement)?;
        let undeclared = placement.repository.clone();
        let step = Step {
            parameters: parameters(&template)?,
            output_parameters: output_parameters(&template)?,
            inputs,
            output_artifacts,
            undeclared_artifacts: undeclared
                .map(|repository| Location { repository, key: placement.key_prefix.clone() }),
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
    let bytes =
        |asked: Option<crate::units::ByteSize>, allowed: u64| asked.map_or(allowed, |asked| asked.0.min(allowed));
    StepLimits {
        memory: bytes(asked.memory, allowed.memory),
        time: asked.time.map_or(allowed.time, |asked| asked.0.min(allowed.time)),
        output: bytes(asked.output, allowed.output),
        disk: bytes(asked.disk, allowed.disk),
        entries: allowed.entries,
    }
}

/// `0` means no timeout, as in Argo.
fn timeout(template: &Template) -> Option<Duration> {
    let times = [template.timeout, template.active_deadline_seconds].into_iter().flatten();
    times.map(|time| time.0).filter(|time| !time.is_zero()).min()
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
    path.parse().map_err(|error| DocumentError::new(format!("{at}.path"), format!("{error}")))
}

fn inputs(template: &Template, placement: &Placement) -> Result<Vec<InputArtifact>, DocumentError> {
    let convert = |artifact: &super::artifact::Artifact| {
        let at = format!("template.inputs.artifacts.{}", artifact.name);
        let (content, optional) = (artifact.content(&at, placement)?, artifact.optional == Some(true));
        if content.is_none() && !optional {
            let message = match placement.supplied {
                Some(_) => format!("the artifact is not here; give it with -a {}=HOST_PATH", artifact.name),
                None => "the artifact was not supplied; give it one where the template is used, or make it `optional`"
                    .to_owned(),
            };
            return Err(DocumentError::new(at, message));
        }
        Ok(InputArtifact {
            name: artifact.name.clone(),
            path: guest_path(&at, artifact.path.as_deref())?,
            content,
            optional,
        })
    };
    template.inputs.artifacts.iter().map(convert).collect()
}

fn output_artifacts(template: &Template, placement: &Placement) -> Result<Vec<OutputArtifact>, DocumentError> {
    let convert = |artifact: &super::artifact::Artifact| {
        let at = format!("template.outputs.artifacts.{}", artifact.name);
        if !is_artifact_name(&artifact.name) {
            return Err(DocumentError::new(at, "this cannot be an artifact's name"));
        }
        Ok(OutputArtifact {
            name: artifact.name.clone(),
            path: guest_path(&at, artifact.path.as_deref())?,
            optional: artifact.optional == Some(true),
            location: artifact.location(&at, placement)?,
        })
    };
    template.outputs.artifacts.iter().map(convert).collect()
}

fn output_parameters(template: &Template) -> Result<Vec<OutputParameter>, DocumentError> {
    let convert = |declared: &DeclaredParameter| {
        let at = format!("template.outputs.parameters.{}", declared.name);
        let from = declared.value_from.clone().unwrap_or_default();
        if let Some(kind) = from.unsupported() {
            let message = format!("`{kind}` does not work for plugin templates; use `path` or `supplied`");
            return Err(DocumentError::new(format!("{at}.valueFrom"), message));
        }
        let path = from.path.as_deref().map(|path| guest_path(&format!("{at}.valueFrom"), Some(path))).transpose()?;
        Ok(OutputParameter { name: declared.name.clone(), value: declared.value.clone(), path, default: from.default })
    };
    template.outputs.parameters.iter().map(convert).collect()
}
