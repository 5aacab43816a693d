//! The key `permissions`: access beyond the module's own directory. This version grants none.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `permissions`. This version supports none of them, and allows only empty lists.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::argo) struct Permissions {
    http: Option<HttpPermission>,
    sql: Vec<String>,
    blobstore: Vec<String>,
    keyvalue: Vec<String>,
    config: Vec<String>,
    sockets: Vec<String>,
}

/// `permissions.http`. The original plugin spells the keys with underscores.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = with_original_spelling)]
struct HttpPermission {
    /// Scheme, host and port of each server that requests may reach.
    #[serde(alias = "allowed_hosts")]
    allowed_hosts: Vec<String>,
    /// Number of requests at once.
    #[serde(alias = "max_concurrent_requests")]
    max_concurrent_requests: Option<u32>,
}

/// The names of all permissions.
const NAMES: [&str; 6] = ["http", "sql", "blobstore", "keyvalue", "config", "sockets"];

/// The permission to which a path below `plugin.wasm` belongs, such as `permissions.sql[0]`.
pub(super) fn name(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("permissions.")?;
    let name = path.split(['.', '[']).next()?;
    NAMES.into_iter().find(|known| *known == name)
}

impl Permissions {
    /// The first permission that the template requests, if there is one.
    pub(super) fn requested(&self) -> Option<&'static str> {
        let http = self.http.as_ref();
        let requested = [
            (
                "http",
                http.is_some_and(|http| !http.allowed_hosts.is_empty()),
            ),
            ("sql", !self.sql.is_empty()),
            ("blobstore", !self.blobstore.is_empty()),
            ("keyvalue", !self.keyvalue.is_empty()),
            ("config", !self.config.is_empty()),
            ("sockets", !self.sockets.is_empty()),
        ];
        requested
            .into_iter()
            .find(|(_, requested)| *requested)
            .map(|(name, _)| name)
    }
}

/// Adds the keys with underscores to the schema, because schemars ignores aliases.
fn with_original_spelling(schema: &mut schemars::Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, original) in [
        ("allowedHosts", "allowed_hosts"),
        ("maxConcurrentRequests", "max_concurrent_requests"),
    ] {
        let property = properties[name].clone();
        properties.insert(original.to_owned(), property);
    }
}
