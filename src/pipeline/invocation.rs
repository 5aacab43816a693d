//! The argument of `run` in the step world.

use serde_json::Value;

use crate::runtime::{Invocation, step_types};
use crate::step::{GuestPath, Step};

/// Makes the invocation that `run` of the step world is called with.
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
