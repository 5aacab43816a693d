//! Inputs of a template, converted to those of a step.

use std::collections::HashMap;

use super::artifact::Artifact;
use super::artifact_context::ArtifactContext;
use super::declaration::{guest_path, unique_names};
use super::template::{InputParameter, Template};
use crate::step::{InputArtifact, Parameter};
use crate::text::DocumentError;

/// The input parameters with their values.
pub(super) fn parameters(
    template: &Template,
    context: &ArtifactContext,
) -> Result<Vec<Parameter>, DocumentError> {
    template
        .inputs
        .parameters
        .iter()
        .map(|declared| parameter(declared, context.local))
        .collect()
}

/// The parameter with its value. `local` is the mode of the command `run`.
fn parameter(declared: &InputParameter, local: bool) -> Result<Parameter, DocumentError> {
    let name = &declared.name;
    let value = declared.value.as_ref().or(declared.default.as_ref());
    let value = value.ok_or_else(|| {
        let place = match local {
            true => format!("with -p {name}=VALUE"),
            false => "where the template is used".to_owned(),
        };
        DocumentError::new(
            format!("template.inputs.parameters.{name}"),
            format!("the parameter has no value; supply one {place}, or set a `default`"),
        )
    })?;
    Ok(Parameter {
        name: name.clone(),
        value: value.clone(),
    })
}

/// The input artifacts with their content.
pub(super) fn artifacts(
    template: &Template,
    context: &ArtifactContext,
) -> Result<Vec<InputArtifact>, DocumentError> {
    let artifacts = &template.inputs.artifacts;
    let names = artifacts.iter().map(|artifact| artifact.name.as_str());
    unique_names(names, "template.inputs.artifacts", "artifact")?;
    let inputs: Vec<InputArtifact> = artifacts
        .iter()
        .map(|declared| artifact(declared, context))
        .collect::<Result<_, _>>()?;
    unique_paths(&inputs)?;
    Ok(inputs)
}

/// Refuses two inputs at one path, as Argo does for container templates (`validateLeaf` in
/// `workflow/validate/validate.go`). Unlike in Argo, `/in/x` and `/in//x/` are the same path. An
/// input may be inside another input.
fn unique_paths(inputs: &[InputArtifact]) -> Result<(), DocumentError> {
    let mut seen = HashMap::new();
    for input in inputs {
        if let Some(other) = seen.insert(&input.path, &input.name) {
            return Err(DocumentError::new(
                format!("template.inputs.artifacts.{}.path", input.name),
                format!(
                    "the input artifact `{other}` has the same path {}",
                    input.path
                ),
            ));
        }
    }
    Ok(())
}

fn artifact(
    declared: &Artifact,
    context: &ArtifactContext,
) -> Result<InputArtifact, DocumentError> {
    let name = &declared.name;
    let at = format!("template.inputs.artifacts.{name}");
    let content = declared.content(&at, context)?;
    let optional = declared.optional == Some(true);
    if content.is_none() && !optional {
        let message = match context.local {
            true => format!("the artifact is missing; supply it with -a {name}=HOST_PATH"),
            false => "the artifact was not supplied; supply it where the template is used, \
                      or make it `optional`"
                .to_owned(),
        };
        return Err(DocumentError::new(at, message));
    }
    Ok(InputArtifact {
        name: name.clone(),
        path: guest_path(&at, declared.path.as_deref())?,
        content,
        unpack: declared.unpack(context),
        mode: declared.permissions(&at)?,
        optional,
    })
}
