//! The body of the agent's request.

use serde_json::Value;

use super::plugin::{self, Wasm};
use super::template::Template;
use crate::step::{Owner, Workflow};
use crate::text::{DocumentError, config_reader};

/// A request to run a template of this plugin. It is a large value, so functions pass it in a box.
#[derive(Debug)]
pub struct Call {
    /// Workflow of the step.
    pub workflow: Workflow,
    /// The template, as Argo's controller filled it in.
    pub template: Template,
    /// The `plugin.wasm` block of the template.
    pub wasm: Wasm,
}

/// Parses `{"workflow": {"metadata": …}, "template": …}`. `None` if the template is for another
/// plugin: such a template is not checked any further.
///
/// # Errors
///
/// The body is not JSON, or the template has a mistake.
pub fn parse(body: &[u8]) -> Result<Option<Box<Call>>, DocumentError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| DocumentError::new("", format!("the request is not JSON: {error}")))?;
    let Some(template) = body.get("template") else {
        return Err(DocumentError::new("", "the request has no `template`"));
    };
    from_template(workflow(&body), template)
}

/// The names in a request that was refused, for the log. A name that the request does not have is
/// empty. The rest of the request may have mistakes.
pub fn owner(body: &[u8]) -> Owner {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let template = body.get("template");
    let name = template.and_then(|template| template.get("name")?.as_str());
    let id = template.and_then(|template| template.get("plugin")?.get("wasm")?.get("id")?.as_str());
    Owner::new(&workflow(&body), name.unwrap_or_default(), id)
}

impl Call {
    /// The template and the Workflow of the call.
    pub fn owner(&self) -> Owner {
        Owner::new(&self.workflow, &self.template.name, self.wasm.id.as_deref())
    }
}

/// The workflow that a request names.
fn workflow(body: &Value) -> Workflow {
    let workflow = body.get("workflow");
    let metadata = workflow.and_then(|workflow| workflow.get("metadata"));
    let text = |key: &str| {
        metadata
            .and_then(|metadata| metadata.get(key)?.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    Workflow {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
    }
}

/// Makes a call of a workflow and a template. `None` if the template is for another plugin.
///
/// # Errors
///
/// The template has a mistake.
pub fn from_template(
    workflow: Workflow,
    template: &Value,
) -> Result<Option<Box<Call>>, DocumentError> {
    let Some(plugin) = template.get("plugin").and_then(Value::as_object) else {
        return Ok(None);
    };
    let Some(wasm) = plugin.get("wasm") else {
        return Ok(None);
    };
    if let Some(key) = plugin.keys().find(|key| *key != "wasm") {
        return Err(DocumentError::new(
            "template.plugin",
            format!(
                "unknown key `{key}` beside `wasm`; a template has only one plugin, \
                 so remove the key or move it below `wasm`"
            ),
        ));
    }
    let wasm = plugin::read(wasm)?;
    let template: Template = config_reader::read(template, "template")?;
    Ok(Some(Box::new(Call {
        workflow,
        template,
        wasm,
    })))
}
