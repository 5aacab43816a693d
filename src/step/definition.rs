//! The definition of a step.

use std::time::Duration;

use artifacts::Location;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sources::{PullPolicy, Reference, Request, Requester};

use super::{InputArtifact, OutputArtifact, OutputParameter, StepLimits};

/// One step to run: everything from the template and the workflow that the pipeline needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Workflow of the step.
    pub workflow: Workflow,
    /// Name of the template.
    pub template: String,
    /// Reference of the module.
    pub module: Reference,
    /// When the module's origin is asked for the digest. `None` for the default of the source.
    pub pull_policy: Option<PullPolicy>,
    /// Names of Secrets in the workflow's namespace, with credentials for the module's origin.
    pub pull_secrets: Vec<String>,
    /// Arguments of the module, without the program's name. `None` for the arguments that the
    /// module's package sets.
    pub args: Option<Vec<String>>,
    /// Environment variables, as names and values. They override the package's variables and the
    /// variables that every guest gets.
    pub env: Vec<(String, String)>,
    /// Standard input of the module.
    pub stdin: String,
    /// The template's `options`. Only the module interprets them.
    pub options: Map<String, Value>,
    /// Input parameters.
    pub parameters: Vec<Parameter>,
    /// Input artifacts.
    pub inputs: Vec<InputArtifact>,
    /// Declared output parameters.
    pub output_parameters: Vec<OutputParameter>,
    /// Declared output artifacts.
    pub output_artifacts: Vec<OutputArtifact>,
    /// Where artifacts are stored that the module reports and the template does not declare. The
    /// key is the prefix of their keys. `None` when there is no repository.
    pub undeclared_artifacts: Option<Location>,
    /// Where the module's standard output and standard error are stored. `None` to not store them.
    pub logs: Option<Location>,
    /// Limits of the step.
    pub limits: StepLimits,
    /// The template's timeout: wall-clock time of all stages together, with waiting for a slot.
    pub timeout: Option<Duration>,
}

impl Step {
    /// The request for the step's module.
    pub fn request(&self) -> Request {
        Request {
            reference: self.module.clone(),
            pull_policy: self.pull_policy,
            scope: self.workflow.scope(),
            requester: Requester {
                namespace: self.workflow.namespace.clone(),
                secrets: self.pull_secrets.clone(),
            },
        }
    }
}

/// The workflow of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// `metadata.name` of the Workflow.
    pub name: String,
    /// `metadata.namespace` of the Workflow.
    pub namespace: String,
    /// `metadata.uid` of the Workflow. Empty for Argo before 3.4.2.
    pub uid: String,
}

impl Workflow {
    /// The scope in which a reference is resolved once: the uid, or namespace and name when there
    /// is no uid.
    pub fn scope(&self) -> String {
        if self.uid.is_empty() {
            format!("{}/{}", self.namespace, self.name)
        } else {
            self.uid.clone()
        }
    }
}

/// An input or output parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Name of the parameter.
    pub name: String,
    /// Value of the parameter. Argo's values are always strings.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::step::Outcome;

    fn golden(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// The serialised form is an interface between processes: a change of it must be on purpose.
    #[test]
    fn a_step_keeps_its_serialised_form() {
        let golden = golden(include_str!("golden/step.json"));
        let step: Step = serde_json::from_value(golden.clone()).unwrap();
        assert_eq!(serde_json::to_value(&step).unwrap(), golden);
        assert_eq!(serde_json::from_value::<Step>(golden).unwrap(), step);
    }

    #[test]
    fn an_outcome_keeps_its_serialised_form() {
        let golden = golden(include_str!("golden/outcome.json"));
        let outcome: Outcome = serde_json::from_value(golden.clone()).unwrap();
        assert_eq!(serde_json::to_value(&outcome).unwrap(), golden);
    }
}
