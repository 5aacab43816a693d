//! The outputs of a module that succeeded: declared ones, and others that only the module reports.

use std::collections::BTreeMap;

use artifacts::Location;
use artifacts::archive::Pack;

use crate::staging::{OutputFile, StepDirectory};
use crate::step::{
    GuestPath, OutputArtifact, OutputLimits, OutputParameter, Parameter, Stage, Step, StepError,
};
use crate::text::units::ByteSize;

fn failed(message: String) -> StepError {
    StepError::failed(Stage::Collect, message)
}

/// The declared parameters, and then the parameters that only the module reports. `undeclared` has
/// the reported values by the names of the parameters.
pub(super) fn parameters(
    step: &Step,
    mut undeclared: BTreeMap<String, String>,
    directory: Option<&StepDirectory>,
    limits: &OutputLimits,
) -> Result<Vec<Parameter>, StepError> {
    let mut parameters = Vec::new();
    for declared in &step.output_parameters {
        let reported = undeclared.remove(&declared.name);
        parameters.push(Parameter {
            name: declared.name.clone(),
            value: declared_parameter(declared, reported, directory, limits)?,
        });
    }
    parameters.extend(
        undeclared
            .into_iter()
            .map(|(name, value)| Parameter { name, value }),
    );
    check_sizes(&parameters, limits)?;
    Ok(parameters)
}

/// The value of a declared parameter, from the first source that has a value.
fn declared_parameter(
    declared: &OutputParameter,
    reported: Option<String>,
    directory: Option<&StepDirectory>,
    limits: &OutputLimits,
) -> Result<String, StepError> {
    if let Some(value) = declared.value.clone().or(reported) {
        return Ok(value);
    }
    let name = &declared.name;
    if let (Some(path), Some(directory)) = (&declared.path, directory)
        && let Some(value) = parameter_file(name, path, directory, limits)?
    {
        return Ok(value);
    }
    declared.default.clone().ok_or_else(|| {
        let file = declared.path.as_ref();
        let file = file.map(|path| format!(" or write it to {path}"));
        let file = file.unwrap_or_default();
        failed(format!(
            "output parameter `{name}` is missing: \
             the module must return it{file}, or the template must set a `default`"
        ))
    })
}

fn check_sizes(parameters: &[Parameter], limits: &OutputLimits) -> Result<(), StepError> {
    let large = parameters
        .iter()
        .find(|parameter| parameter.value.len() > limits.parameter);
    if let Some(large) = large {
        let limit = ByteSize(limits.parameter as u64);
        return Err(failed(format!(
            "output parameter `{}` is larger than {limit}; make it an artifact",
            large.name
        )));
    }
    let sizes = parameters.iter().map(|parameter| parameter.value.len());
    if sizes.sum::<usize>() > limits.parameters {
        let limit = ByteSize(limits.parameters as u64);
        return Err(failed(format!(
            "the output parameters together are larger than {limit}; make the large ones artifacts"
        )));
    }
    Ok(())
}

/// Content of a parameter's file without one newline at the end, as Argo's executor reads it
/// (`SaveParameters`). `None` when the file does not exist.
fn parameter_file(
    name: &str,
    path: &GuestPath,
    directory: &StepDirectory,
    limits: &OutputLimits,
) -> Result<Option<String>, StepError> {
    let read = directory.read(path.relative(), limits.parameter as u64 + 1);
    let bytes = read.map_err(|error| {
        failed(format!(
            "output parameter `{name}` cannot be read from {path}: {error}"
        ))
    })?;
    Ok(bytes.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }))
}

/// The files of the declared artifacts, and then of the artifacts that only the module reports.
/// `undeclared` has the reported paths by the names of the artifacts.
pub(super) fn artifacts(
    step: &Step,
    mut undeclared: BTreeMap<String, GuestPath>,
    directory: Option<&StepDirectory>,
) -> Result<Vec<OutputFile>, StepError> {
    let mut files = Vec::new();
    for declared in &step.output_artifacts {
        let reported = undeclared.remove(&declared.name);
        files.extend(declared_artifact(declared, reported, directory)?);
    }
    for (name, path) in undeclared {
        files.push(undeclared_artifact(step, name, &path, directory)?);
    }
    Ok(files)
}

/// The file of a declared artifact. `None` for an optional artifact that does not exist.
fn declared_artifact(
    declared: &OutputArtifact,
    reported: Option<GuestPath>,
    directory: Option<&StepDirectory>,
) -> Result<Option<OutputFile>, StepError> {
    let OutputArtifact {
        name,
        path,
        optional,
        location,
        pack,
    } = declared;
    let found = find(path, directory).or_else(|| find(&reported?, directory));
    if let Some(path) = found {
        return Ok(Some(OutputFile {
            name: name.clone(),
            path,
            location: location.clone(),
            pack: *pack,
        }));
    }
    if *optional {
        return Ok(None);
    }
    let is_link = directory.is_some_and(|directory| directory.is_link(path));
    let why = if is_link {
        format!(
            "{path} is a link to a path that does not exist in the step's directory; \
             the link must be relative"
        )
    } else {
        format!("nothing exists at {path}")
    };
    Err(failed(format!(
        "output artifact `{name}` is missing: {why}"
    )))
}

/// The file of an artifact that the template does not declare.
fn undeclared_artifact(
    step: &Step,
    name: String,
    path: &GuestPath,
    directory: Option<&StepDirectory>,
) -> Result<OutputFile, StepError> {
    let path = find(path, directory).ok_or_else(|| {
        failed(format!(
            "output artifact `{name}` is missing: \
             the module reported the path {path}, but nothing exists there"
        ))
    })?;
    let destination = step.undeclared_artifacts.clone().ok_or_else(|| {
        failed(format!(
            "output artifact `{name}` cannot be stored: \
             no artifact repository is known, and --output-dir is not set"
        ))
    })?;
    let key = match destination.key.as_str() {
        "" => name.clone(),
        prefix => format!("{prefix}/{name}"),
    };
    Ok(OutputFile {
        name,
        path,
        location: Location { key, ..destination },
        pack: Pack::None,
    })
}

/// The path itself, or the same path under `/work/artifacts-out`, whichever exists.
fn find(path: &GuestPath, directory: Option<&StepDirectory>) -> Option<GuestPath> {
    let directory = directory?;
    if directory.contains(path) {
        return Some(path.clone());
    }
    let second = format!("/work/artifacts-out{path}").parse().ok()?;
    directory.contains(&second).then_some(second)
}
