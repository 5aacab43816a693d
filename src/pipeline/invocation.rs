//! Inputs of a module at its start: arguments, environment, and the argument of the step world.

use std::collections::BTreeMap;

use serde_json::Value;
use sources::Defaults;

use crate::runtime::{Invocation, step_types};
use crate::step::{GuestPath, Step};

/// The argument of `run` in the step world.
pub(super) fn invocation(step: &Step) -> Invocation {
    let artifact = |name: &String, path: &GuestPath| step_types::Artifact {
        name: name.clone(),
        path: path.to_string(),
    };
    let parameters = step.parameters.iter();
    Invocation {
        workflow_name: step.workflow.name.clone(),
        workflow_namespace: step.workflow.namespace.clone(),
        workflow_uid: step.workflow.uid.clone(),
        template: step.template.clone(),
        parameters: parameters
            .map(|parameter| step_types::Parameter {
                name: parameter.name.clone(),
                value: parameter.value.clone(),
            })
            .collect(),
        inputs: step
            .inputs
            .iter()
            .filter(|input| input.content.is_some())
            .map(|input| artifact(&input.name, &input.path))
            .collect(),
        outputs: step
            .output_artifacts
            .iter()
            .map(|output| artifact(&output.name, &output.path))
            .collect(),
        options: Value::Object(step.options.clone()).to_string(),
    }
}

/// The program's name, followed by the arguments. The template's `args` replace the arguments of
/// the module's package.
pub(super) fn arguments(step: &Step, defaults: &Defaults) -> Vec<String> {
    let program = defaults
        .program
        .clone()
        .unwrap_or_else(|| program_name(step));
    let args = step.args.as_ref().unwrap_or(&defaults.args);
    [program]
        .into_iter()
        .chain(defaults.fixed_args.iter().cloned())
        .chain(args.iter().cloned())
        .collect()
}

/// Environment variables. The template's values override the package's. The package's values
/// override the fixed values, which every guest gets.
pub(super) fn environment(step: &Step, defaults: &Defaults) -> Vec<(String, String)> {
    let ours = [("PWD", "/"), ("HOME", "/"), ("TMPDIR", "/tmp")];
    let ours = ours.iter().copied();
    let given = defaults
        .env
        .iter()
        .chain(&step.env)
        .map(|(name, value)| (name.as_str(), value.as_str()));
    // The last value of a name is used.
    let env: BTreeMap<&str, &str> = ours.chain(given).collect();
    env.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// `argv[0]`: the reference's name for the program.
fn program_name(step: &Step) -> String {
    let name = step.module.program_name();
    name.unwrap_or_else(|| "module".to_owned())
}
