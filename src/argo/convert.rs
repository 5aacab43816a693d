//! Converts a call to a [`Step`], and checks everything that needs no network.

use std::time::Duration;

use sources::Reference;

use super::artifact_context::ArtifactContext;
use super::plugin::Wasm;
use super::request::Call;
use super::template::Template;
use super::{inputs, outputs};
use crate::step::{Step, StepLimits};
use crate::text::DocumentError;

/// Everything that a conversion needs besides the call.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// The operator's limits. A template can only lower them.
    pub limits: StepLimits,
    /// Where artifacts are.
    pub artifacts: ArtifactContext,
}

impl Call {
    /// The reference of the module that the template names.
    pub fn module(&self) -> Result<Reference, DocumentError> {
        module(&self.wasm)
    }

    /// The step that the template describes, and the template, which the reply needs.
    ///
    /// # Errors
    ///
    /// The template has a mistake, or needs something that this version does not support.
    pub fn into_step(self, conversion: &Conversion) -> Result<(Step, Template), DocumentError> {
        let Self {
            workflow,
            template,
            wasm,
        } = self;
        template.check()?;
        wasm.check_supported()?;
        let module = module(&wasm)?;
        let context = &template.artifact_context(conversion.artifacts.clone())?;
        let inputs = inputs::artifacts(&template, context)?;
        let logs = outputs::logs(&template, context)?;
        let undeclared_artifacts = outputs::undeclared(context)?;
        let output_artifacts = outputs::artifacts(&template, context, logs.as_ref())?;
        let step = Step {
            parameters: inputs::parameters(&template, context)?,
            output_parameters: outputs::parameters(&template)?,
            inputs,
            output_artifacts,
            undeclared_artifacts,
            logs,
            limits: wasm.limits.lowest(&conversion.limits),
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
        let message = match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        DocumentError::new("template.plugin.wasm.module", message)
    })
}

/// The shorter of the template's timeouts. `0` ends the step at once, as in Argo
/// (`checkTemplateTimeouts` in `workflow/controller/operator.go`).
fn timeout(template: &Template) -> Option<Duration> {
    [template.timeout, template.active_deadline_seconds]
        .into_iter()
        .flatten()
        .map(|time| time.0)
        .min()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shorter_timeout_applies_and_zero_is_a_timeout() {
        let timeout = |template| timeout(&serde_json::from_value(template).unwrap());
        assert_eq!(timeout(json!({})), None);
        assert_eq!(timeout(json!({"timeout": "0"})), Some(Duration::ZERO));
        assert_eq!(timeout(json!({"timeout": "0s"})), Some(Duration::ZERO));
        let both = json!({"timeout": "2m", "activeDeadlineSeconds": 60});
        assert_eq!(timeout(both), Some(Duration::from_mins(1)));
    }
}
