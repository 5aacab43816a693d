//! What the agent posts.

use serde_json::Value;

use super::plugin::{self, Wasm};
use super::template::Template;
use crate::step::Workflow;
use crate::text::{DocumentError, config_reader};

/// A template that is ours.
#[derive(Debug)]
pub struct Call {
    /// The workflow.
    pub workflow: Workflow,
    /// The template.
    pub template: Template,
    /// Its `plugin.wasm` block.
    pub wasm: Wasm,
}

/// Reads `{"workflow": {"metadata": …}, "template": …}`. `None` when the template is some other plugin's: that is decided
/// before anything in it is validated.
pub fn parse(body: &[u8]) -> Result<Option<Call>, DocumentError> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| DocumentError::new("", format!("the request is not JSON: {error}")))?;
    let Some(template) = body.get("template") else {
        return Err(DocumentError::new("", "the request has no `template`"));
    };
    let metadata = body.pointer("/workflow/metadata");
    let text = |key: &str| {
        metadata
            .and_then(|metadata| metadata.get(key)?.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let workflow = Workflow {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
    };
    from_template(workflow, template)
}

/// The same for a template that is at hand.
pub fn from_template(workflow: Workflow, template: &Value) -> Result<Option<Call>, DocumentError> {
    let Some(wasm) = template.pointer("/plugin/wasm") else {
        return Ok(None);
    };
    let beside = template["plugin"]
        .as_object()
        .and_then(|plugin| plugin.keys().find(|key| *key != "wasm"));
    if let Some(key) = beside {
        return Err(DocumentError::new(
            "template.plugin",
            format!(
                "unknown key `{key}` beside `wasm`; a template has one plugin, and its keys are below it"
            ),
        ));
    }
    let wasm = plugin::read(wasm)?;
    let template: Template = config_reader::read(template, "template")?;
    Ok(Some(Call {
        workflow,
        template,
        wasm,
    }))
}
