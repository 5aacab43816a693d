//! Outputs of a template, converted to those of a step.

use std::collections::HashSet;

use artifacts::Location;

use super::artifact::{Artifact, check_location};
use super::artifact_context::ArtifactContext;
use super::declaration::{guest_path, unique_names};
use super::template::{OutputParameter as DeclaredParameter, Template};
use crate::step::{LOG_ARTIFACT, OutputArtifact, OutputParameter, is_artifact_name};
use crate::text::DocumentError;

const ARCHIVE_LOCATION: &str = "template.archiveLocation";
/// Name of the object with the module's output, as Argo names it.
const LOG_FILE: &str = "main.log";
/// Objects that only the module names are below this name, so that they cannot overwrite others.
const UNDECLARED: &str = "undeclared";

/// The output parameters, with the places of their values.
pub(super) fn parameters(template: &Template) -> Result<Vec<OutputParameter>, DocumentError> {
    let parameters = &template.outputs.parameters;
    let names = parameters.iter().map(|parameter| parameter.name.as_str());
    unique_names(names, "template.outputs.parameters", "parameter")?;
    parameters.iter().map(parameter).collect()
}

fn parameter(declared: &DeclaredParameter) -> Result<OutputParameter, DocumentError> {
    let at = format!("template.outputs.parameters.{}", declared.name);
    check_source(declared, &at)?;
    let at = format!("{at}.valueFrom");
    let from = declared.value_from.clone().unwrap_or_default();
    if let Some(kind) = from.unsupported() {
        return Err(DocumentError::new(
            at,
            format!("`{kind}` does not work for plugin templates; use `path` or `supplied`"),
        ));
    }
    let path = from.path.as_deref();
    Ok(OutputParameter {
        name: declared.name.clone(),
        value: declared.value.clone(),
        path: path.map(|path| guest_path(&at, Some(path))).transpose()?,
        default: from.default,
    })
}

/// Refuses a parameter that Argo refuses when the Workflow is submitted (`validateOutputParameter`
/// in `workflow/validate/validate.go`).
fn check_source(declared: &DeclaredParameter, at: &str) -> Result<(), DocumentError> {
    let message = match (&declared.value, &declared.value_from) {
        (Some(_), None) => return Ok(()),
        (Some(_), Some(_)) => "Argo allows only one of `value` and `valueFrom`",
        (None, None) => "Argo demands `value` or `valueFrom`",
        (None, Some(from)) => match (&from.path, &from.supplied, from.unsupported()) {
            (Some(_), Some(_), _) => "Argo allows only one of `path` and `supplied`",
            (None, None, None) => "Argo demands one source under `valueFrom`",
            _ => return Ok(()),
        },
    };
    Err(DocumentError::new(at, message).with_hint(
        "write `valueFrom: {supplied: {}}` for a value that the module reports, \
         or `valueFrom: {path: /out/NAME}` for a file",
    ))
}

/// Location for the module's standard output and standard error. `None` if they are not stored.
///
/// As in Argo, a template can switch this on but not off.
pub(super) fn logs(
    template: &Template,
    context: &ArtifactContext,
) -> Result<Option<Location>, DocumentError> {
    let archive_location = template.archive_location.as_ref();
    let by_template = archive_location.and_then(|location| location.archive_logs) == Some(true);
    let by_repository = context
        .known_destination()
        .is_some_and(|destination| destination.archive_logs);
    if !by_template && !by_repository {
        return Ok(None);
    }
    let location = context.destination(ARCHIVE_LOCATION)?.own_object(LOG_FILE);
    check_location(&location, ARCHIVE_LOCATION)?;
    Ok(Some(location))
}

/// Location below which artifacts are stored that only the module names. `None` if there is no
/// artifact repository.
pub(super) fn undeclared(context: &ArtifactContext) -> Result<Option<Location>, DocumentError> {
    let Some(destination) = context.known_destination() else {
        return Ok(None);
    };
    let location = match context.local {
        // `run` writes them beside the declared outputs.
        true => destination.object(&destination.key),
        false => destination.own_object(UNDECLARED),
    };
    check_location(&location, ARCHIVE_LOCATION)?;
    Ok(Some(location))
}

/// The output artifacts, with their locations. `logs` is the location of the log, if it is stored.
pub(super) fn artifacts(
    template: &Template,
    context: &ArtifactContext,
    logs: Option<&Location>,
) -> Result<Vec<OutputArtifact>, DocumentError> {
    let artifacts = &template.outputs.artifacts;
    let names = artifacts.iter().map(|artifact| artifact.name.as_str());
    unique_names(names, "template.outputs.artifacts", "artifact")?;
    let mut taken: HashSet<Location> = logs.into_iter().cloned().collect();
    artifacts
        .iter()
        .map(|declared| artifact(declared, context, &mut taken))
        .collect()
}

/// One output artifact, at a location that is not in `taken` yet.
fn artifact(
    declared: &Artifact,
    context: &ArtifactContext,
    taken: &mut HashSet<Location>,
) -> Result<OutputArtifact, DocumentError> {
    let at = format!("template.outputs.artifacts.{}", declared.name);
    if !is_artifact_name(&declared.name) {
        return Err(DocumentError::new(at, "this cannot be an artifact's name"));
    }
    if declared.name == LOG_ARTIFACT {
        let message = "this name is reserved for the log of the step; choose another name";
        return Err(DocumentError::new(at, message));
    }
    let path = guest_path(&at, declared.path.as_deref())?;
    declared.check_output(&at)?;
    let pack = declared.pack(&at, context)?;
    let mut location = declared.output_location(&at, &path, pack, context)?;
    if !taken.insert(location.clone()) {
        if declared.names_location() {
            return Err(DocumentError::new(
                at,
                "another output of this template has the same location",
            ));
        }
        // Files in different directories can have the same name. Names of artifacts are unique.
        location.key = format!("{}-{}", location.key, declared.name);
        taken.insert(location.clone());
    }
    Ok(OutputArtifact {
        name: declared.name.clone(),
        path,
        optional: declared.optional == Some(true),
        location,
        pack,
    })
}
