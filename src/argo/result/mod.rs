//! The form of a step's `outputs.result`.
//!
//! Argo parses the result of each iteration of a loop as JSON, also if no other step refers to the
//! results. A result that is not JSON ends the whole workflow with an error
//! (`processAggregateNodeOutputs` in `workflow/controller/operator.go`). A container step sends a
//! result only if the template that contains the step refers to the result (`includeScriptOutput`
//! in the same file). A call of the agent does not tell whether the step is in a loop, or whether
//! its result is used. So [`ResultUses`] finds the use of the result:
//!
//! 1. in the Workflow, if the executor may read it
//! 2. otherwise in the template's `id`, if it begins with the node's name
//!
//! [`ResultFormat::apply`] then decides in which form the result is sent.

mod lookup;
mod node_name;
mod nodes;
mod uses;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::plugin::ResultFormat;
use super::template::Template;
use crate::step::{Outcome, Phase, Workflow};

pub use lookup::ResultUses;

/// Note in the message of a step. The executor does not send the result of this step.
const NO_RESULT: &str = "the step has no `outputs.result`: \
                         its output is not JSON, and the step may be in a loop; \
                         set `plugin.wasm.result`";

/// How a workflow uses the result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultUse {
    /// Nothing in the workflow refers to the result.
    Unused,
    /// The step is not in a loop, and its result may be referred to.
    Single,
    /// The step is one iteration of a loop, and the results may be referred to.
    Loop,
    /// It is not known whether the step is in a loop.
    Unknown,
}

/// The parts of a call that tell how the workflow uses the step's result.
#[derive(Clone, Debug, Default)]
pub struct ResultRequest {
    workflow: Workflow,
    template: String,
    /// The template's `id`; empty if it has none.
    id: String,
    /// Input parameters, by name.
    parameters: BTreeMap<String, String>,
}

impl ResultRequest {
    /// The request for a step with this template. `id` is the template's `id`.
    pub fn new(workflow: Workflow, template: &Template, id: Option<String>) -> Self {
        let parameters = template.inputs.parameters.iter().map(|parameter| {
            let value = parameter.value.clone().or(parameter.default.clone());
            (parameter.name.clone(), value.unwrap_or_default())
        });
        Self {
            workflow,
            template: template.name.clone(),
            id: id.unwrap_or_default(),
            parameters: parameters.collect(),
        }
    }
}

impl ResultFormat {
    /// Whether the form of the result depends on its use.
    pub fn depends_on_use(self) -> bool {
        self == Self::Auto
    }

    /// Gives the result of an outcome the form that the template or the workflow needs, or removes
    /// the result.
    pub fn apply(self, used: ResultUse, outcome: &mut Outcome) {
        let Some(text) = outcome.result.take() else {
            return;
        };
        outcome.result = match (self, used) {
            (Self::None, _) | (Self::Auto, ResultUse::Unused) => None,
            (Self::Text, _) | (Self::Auto, ResultUse::Single) => Some(text),
            (Self::Json, _) | (Self::Auto, ResultUse::Loop) => Some(to_json(text)),
            // Argo reads only the results of iterations that succeeded.
            (Self::Auto, ResultUse::Unknown)
                if is_json(&text) || outcome.phase != Phase::Succeeded =>
            {
                Some(text)
            }
            (Self::Auto, ResultUse::Unknown) => {
                if !text.is_empty() {
                    outcome.add_note(NO_RESULT);
                }
                None
            }
        };
    }
}

/// Whether Go's `encoding/json` can parse the text. Numbers and escapes are not converted, so their
/// ranges do not matter.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The text if it is JSON, or else a JSON string with the text.
fn to_json(text: String) -> String {
    match is_json(&text) {
        true => text,
        false => serde_json::Value::String(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(format: ResultFormat, used: ResultUse, phase: Phase, text: &str) -> Outcome {
        let mut outcome = Outcome {
            phase,
            message: "module sha256:1".to_owned(),
            result: Some(text.to_owned()),
            exit_code: Some(0),
            parameters: Vec::new(),
            artifacts: Vec::new(),
        };
        format.apply(used, &mut outcome);
        outcome
    }

    #[test]
    fn a_result_in_a_loop_is_always_json() {
        use ResultFormat::{Auto, Json, None as NoResult, Text};
        use ResultUse::{Loop, Single, Unknown, Unused};
        for (format, used, text, expected) in [
            (Auto, Unused, "[1]", None),
            (Auto, Single, "step 1", Some("step 1")),
            (Auto, Single, "", Some("")),
            (Auto, Loop, "step 1", Some("\"step 1\"")),
            (Auto, Loop, "say \"a\"\n", Some("\"say \\\"a\\\"\\n\"")),
            (Auto, Loop, "", Some("\"\"")),
            (Auto, Loop, " {\"a\": 1e999} ", Some(" {\"a\": 1e999} ")),
            (Auto, Loop, "1 2", Some("\"1 2\"")),
            (Auto, Loop, "NaN", Some("\"NaN\"")),
            (Auto, Loop, "[1", Some("\"[1\"")),
            (Auto, Unknown, "true", Some("true")),
            (Auto, Unknown, "step 1", None),
            (Auto, Unknown, "", None),
            (Text, Loop, "step 1", Some("step 1")),
            (Json, Single, "step 1", Some("\"step 1\"")),
            (Json, Unknown, "3", Some("3")),
            (NoResult, Single, "3", None),
        ] {
            let outcome = sent(format, used, Phase::Succeeded, text);
            assert_eq!(
                outcome.result.as_deref(),
                expected,
                "{format:?} {used:?} {text}"
            );
            let noted = outcome.message.contains("set `plugin.wasm.result`");
            assert_eq!(
                noted,
                (used, text) == (Unknown, "step 1"),
                "{}",
                outcome.message
            );
        }
        let failed = sent(Auto, Unknown, Phase::Failed, "step 1");
        assert_eq!(failed.result.as_deref(), Some("step 1"));
        assert_eq!(failed.message, "module sha256:1");
    }

    /// Go's decoder accepts each of these texts.
    #[test]
    fn json_that_go_accepts_is_not_quoted() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for text in [
            "\"\\ud800\"",
            "-0",
            "1E400",
            "{\"a\":1,\"a\":2}",
            "null",
            &deep,
        ] {
            assert_eq!(to_json(text.to_owned()), text);
        }
    }
}
