//! `http` templates: requests that Argo's agent sends itself.
//!
//! The source is `pkg/apis/workflow/v1alpha1/http_types.go` of Argo Workflows.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::template::Template;
use crate::step::{Owner, Workflow};
use crate::text::{DocumentError, config_reader};

/// Maximum number of headers. Many servers accept no more.
const MAX_HEADERS: usize = 100;

/// A task with an `http` template.
#[derive(Debug)]
pub struct HttpCall {
    /// Workflow of the task.
    pub workflow: Workflow,
    /// The template, as Argo's controller filled it in.
    pub template: Template,
    /// The `http` block of the template.
    pub http: HttpTemplate,
}

/// `http`: the request, and the condition for its success.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpTemplate {
    /// Method of the request. `GET` if it is empty.
    pub method: String,
    /// URL of the request.
    pub url: String,
    /// Headers of the request.
    pub headers: Vec<HttpHeader>,
    /// Time limit for the request and its response, in seconds.
    pub timeout_seconds: Option<u64>,
    /// Expression that decides whether the response is a success. If it is empty, the status must
    /// be between 200 and 299.
    pub success_condition: String,
    /// Body of the request. Not used with `body_from`.
    pub body: String,
    /// Body of the request as bytes.
    pub body_from: Option<HttpBodySource>,
    /// Whether the certificate of the server is not verified.
    pub insecure_skip_verify: bool,
}

/// `http.headers[]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpHeader {
    /// Name of the header.
    pub name: String,
    /// Value of the header.
    pub value: String,
    /// A Secret with the value.
    pub value_from: Option<HttpHeaderSource>,
}

/// `http.headers[].valueFrom`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpHeaderSource {
    /// The key of a Secret.
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Secret in the namespace of the Workflow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    pub name: String,
    /// Key of the value.
    pub key: String,
    /// Kubernetes' field for values that may be missing. Argo's agent does not read it.
    #[serde(default)]
    pub optional: Option<bool>,
}

/// `http.bodyFrom`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpBodySource {
    /// The bytes. They are base64 in the template.
    #[serde(deserialize_with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text);
    bytes.map_err(|_| de::Error::custom("must be base64"))
}

impl HttpHeader {
    /// The key of a Secret that has the value.
    pub fn secret(&self) -> Option<&SecretKeyRef> {
        self.value_from.as_ref()?.secret_key_ref.as_ref()
    }
}

impl HttpTemplate {
    /// The time limit for the request and its response.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds.map(Duration::from_secs)
    }
}

impl HttpCall {
    /// The template and the Workflow of the call.
    pub fn owner(&self) -> Owner {
        Owner::new(&self.workflow, &self.template.name, None)
    }
}

/// Makes a call of a workflow and a template. `None` if the template has no `http` block.
///
/// # Errors
///
/// The template has a mistake.
pub fn http_call(
    workflow: Workflow,
    template: &Value,
) -> Result<Option<Box<HttpCall>>, DocumentError> {
    let Some(http) = template.get("http") else {
        return Ok(None);
    };
    let http: HttpTemplate = config_reader::read(http, "template.http")?;
    if http.headers.len() > MAX_HEADERS {
        return Err(DocumentError::new(
            "template.http.headers",
            format!("there are more than {MAX_HEADERS} headers"),
        ));
    }
    Ok(Some(Box::new(HttpCall {
        workflow,
        template: config_reader::read(template, "template")?,
        http,
    })))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(http: &Value) -> Result<Option<Box<HttpCall>>, DocumentError> {
        http_call(Workflow::default(), &json!({"name": "t", "http": http}))
    }

    #[test]
    fn all_fields_of_argo_are_read() {
        let http = json!({
            "method": "POST", "url": "https://a.example", "timeoutSeconds": 7, "insecureSkipVerify": true,
            "headers": [
                {"name": "a", "value": "1"},
                {"name": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}},
            ],
            "successCondition": "true", "body": "text", "bodyFrom": {"bytes": "AAE="},
        });
        let http = call(&http).unwrap().unwrap().http;
        assert_eq!(http.timeout(), Some(Duration::from_secs(7)));
        assert_eq!(http.headers[0].value, "1");
        assert_eq!(http.headers[1].secret().unwrap().key, "k");
        assert_eq!(http.body_from.unwrap().bytes, [0, 1]);
        assert!(http.insecure_skip_verify);
    }

    #[test]
    fn mistakes_name_the_key() {
        for (http, expected) in [
            (json!({"urll": "x"}), "`template.http`: unknown key `urll`"),
            (
                json!({"bodyFrom": {"bytes": "?"}}),
                "template.http.bodyFrom.bytes",
            ),
            (
                json!({"timeoutSeconds": -1}),
                "template.http.timeoutSeconds",
            ),
        ] {
            let error = call(&http).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let other = json!({"name": "t", "plugin": {"wasm": {}}});
        assert!(http_call(Workflow::default(), &other).unwrap().is_none());
    }
}
