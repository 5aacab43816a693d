//! The `wasm` block of a template: what a workflow author writes.
//!
//! [`super::schema()`] is generated from these types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use sources::reference::{
    BindleReference, HttpReference, OciReference, Select, WasmerReference, WkgReference,
};
use sources::{Digest, Error, ErrorKind, Reference};

use crate::kubernetes::is_dns_subdomain;
use crate::text::units::{ByteSize, Time};
use crate::text::{DocumentError, config_reader};

const PATH: &str = "template.plugin.wasm";

/// `plugin.wasm`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wasm {
    /// The module: a URI, or one key that says where it lives.
    pub module: Module,
    /// How the module is fetched.
    #[serde(default)]
    pub pull: Pull,
    /// The module's arguments, without its own name. They replace those of the package.
    pub args: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Standard input.
    pub stdin: Option<String>,
    /// What the module may reach beyond its own directory. The operator has to allow it too.
    #[serde(default)]
    pub permissions: Permissions,
    /// What the module may use. The operator's own limits hold as well.
    #[serde(default)]
    pub limits: Limits,
    /// Anything that the module understands.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// What tells this execution from others with the same inputs: `{{node.name}}/{{retries}}`.
    pub id: Option<String>,
}

/// `module`: one URI string, or a map with exactly one key.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Module {
    /// `oci://…`, `https://…#sha256=…`; without a scheme, an OCI reference.
    Uri(String),
    /// By key.
    Keyed(Box<Keyed>),
}

/// The kinds of module, one of which is given.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Keyed {
    /// In an OCI registry.
    oci: Option<Oci>,
    /// On a web server.
    http: Option<Http>,
    /// In the Wasmer registry.
    wapm: Option<Wapm>,
    /// On a Bindle server.
    bindle: Option<Bindle>,
    /// By wasm-pkg name: `acme:resize@1.4.0`; without a version, the newest.
    wkg: Option<String>,
}

/// `module.oci`: a reference, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Oci {
    /// `ghcr.io/acme/resize:1.4.0`; tag, `@sha256:…`, or both.
    Reference(String),
    /// The reference, and which of several modules in it.
    Selected(OciSelected),
}

/// `module.oci` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OciSelected {
    /// The reference.
    #[serde(rename = "ref")]
    reference: String,
    /// The module's path in an image with several.
    path: Option<String>,
    /// The digest, title or number of a layer, or the name of a component of a Spin application, where there are several.
    layer: Option<String>,
}

/// `module.wapm`: a package, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Wapm {
    /// `acme/resize@1.4.0`; without a version, the newest.
    Package(String),
    /// The package, and more about it.
    Detailed(WapmDetailed),
}

/// `module.wapm` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WapmDetailed {
    /// The package.
    package: String,
    /// One of its commands; without one, its entrypoint.
    command: Option<String>,
    /// The registry's host, or the URL of its GraphQL API; without one, the operator's.
    registry: Option<String>,
    /// The digest of the package's file, `sha256:…`.
    digest: Option<String>,
}

/// `module.bindle`: a bindle's id, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Bindle {
    /// `acme.dev/resize/1.4.0`
    Id(String),
    /// The id, and more about it.
    Detailed(BindleDetailed),
}

/// `module.bindle` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindleDetailed {
    /// The id.
    id: String,
    /// The server's host, or the URL of its API; without one, the operator's.
    server: Option<String>,
    /// One of several parcels: its name or its SHA-256.
    parcel: Option<String>,
}

/// `module.http`: an address, or a map.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum Http {
    /// `https://files.example.com/resize.wasm`, with `#sha256=…` for its digest.
    Url(String),
    /// The address, and more about it.
    Detailed(HttpDetailed),
}

/// `module.http` as a map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpDetailed {
    /// The address.
    url: String,
    /// The digest of the file as served, `sha256:…`.
    digest: Option<String>,
    /// The digest of the module, where the file is compressed or an archive.
    module_digest: Option<String>,
    /// The Secret with credentials for the server: a password, a token, or headers.
    auth_secret: Option<SecretName>,
    /// Request headers, without secrets.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// `pull`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pull {
    /// When to ask the module's origin. `Always` when the tag is `latest` or missing, else `IfNotPresent`.
    pub policy: Option<PullPolicy>,
    /// Secrets of the workflow's namespace with credentials for the module's origin.
    secrets: Vec<SecretName>,
}

/// `pull.policy`, as Kubernetes' `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Ask each workflow.
    Always,
    /// Ask when the reference is not in the store.
    IfNotPresent,
    /// The store alone.
    Never,
}

impl From<PullPolicy> for sources::PullPolicy {
    fn from(policy: PullPolicy) -> Self {
        match policy {
            PullPolicy::Always => Self::Always,
            PullPolicy::IfNotPresent => Self::IfNotPresent,
            PullPolicy::Never => Self::Never,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretName {
    name: String,
}

impl SecretName {
    fn checked(&self, at: &str) -> Result<String, DocumentError> {
        if is_dns_subdomain(&self.name) {
            return Ok(self.name.clone());
        }
        let message = format!(
            "`{}` cannot be a Secret's name",
            self.name.chars().take(80).collect::<String>()
        );
        Err(DocumentError::new(format!("{PATH}.{at}.name"), message))
    }
}

/// `env[]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    name: String,
    /// Its value.
    value: Option<String>,
    /// A Secret's value. Not supported by this version.
    value_from: Option<Value>,
}

/// `permissions`. None can be granted by this version.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Permissions {
    http: Option<HttpPermission>,
    sql: Vec<String>,
    blobstore: Vec<String>,
    keyvalue: Vec<String>,
    config: Vec<String>,
    sockets: Vec<String>,
}

/// `permissions.http`. The spelling with underscores is the original plugin's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(transform = with_original_spelling)]
pub struct HttpPermission {
    /// Where requests may go: scheme, host and port.
    #[serde(alias = "allowed_hosts")]
    allowed_hosts: Vec<String>,
    /// How many at once.
    #[serde(alias = "max_concurrent_requests")]
    max_concurrent_requests: Option<u32>,
}

/// schemars takes no notice of aliases.
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

/// `limits`. What is not given is the operator's limit.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory.
    pub memory: Option<ByteSize>,
    /// Time in the module.
    pub time: Option<Time>,
    /// Standard output, and separately standard error.
    pub output: Option<ByteSize>,
    /// The step's directory.
    pub disk: Option<ByteSize>,
}

/// Reads the block.
pub fn read(wasm: &Value) -> Result<Wasm, DocumentError> {
    config_reader::read(wasm, PATH).map_err(|error| match error.path() {
        PATH if error.is_unknown_key() => {
            error.hint("if the module reads it as an option, move it under `options`")
        }
        _ => error,
    })
}

/// These are a string or a map.
macro_rules! string_or_map {
    ($type:ident, $string:ident, $map:expr, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct StringOrMap;
                impl<'de> serde::de::Visitor<'de> for StringOrMap {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E>(self, text: &str) -> Result<$type, E> {
                        Ok($type::$string(text.to_owned()))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$type, A::Error> {
                        Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                            .map($map)
                    }
                }
                deserializer.deserialize_any(StringOrMap)
            }
        }
    };
}

string_or_map!(
    Module,
    Uri,
    |keyed| Module::Keyed(Box::new(keyed)),
    "a URI, or a map with one key"
);
string_or_map!(
    Oci,
    Reference,
    Oci::Selected,
    "a reference, or a map with `ref`"
);
string_or_map!(Http, Url, Http::Detailed, "an address, or a map with `url`");
string_or_map!(
    Wapm,
    Package,
    Wapm::Detailed,
    "a package, or a map with `package`"
);
string_or_map!(Bindle, Id, Bindle::Detailed, "an id, or a map with `id`");

impl Wasm {
    /// Where the module is.
    pub(super) fn reference(&self) -> Result<Reference, Error> {
        match &self.module {
            Module::Uri(uri) => uri.parse(),
            Module::Keyed(keyed) => keyed.reference(),
        }
    }

    /// The names of the Secrets with credentials for the module's origin.
    pub(super) fn secrets(&self) -> Result<Vec<String>, DocumentError> {
        let own = match &self.module {
            Module::Keyed(keyed) => keyed.http.as_ref().and_then(Http::auth_secret),
            Module::Uri(_) => None,
        };
        let own = own
            .into_iter()
            .map(|secret| secret.checked("module.http.authSecret"));
        let pull = self.pull.secrets.iter().enumerate();
        own.chain(pull.map(|(index, secret)| secret.checked(&format!("pull.secrets[{index}]"))))
            .collect()
    }

    /// Refuses what is understood and not built yet: a limit of this version must not look like a success.
    pub(super) fn check_supported(&self) -> Result<(), DocumentError> {
        let permissions = &self.permissions;
        let asked = [
            (
                "permissions.http",
                permissions
                    .http
                    .as_ref()
                    .is_some_and(|http| !http.allowed_hosts.is_empty()),
            ),
            ("permissions.sql", !permissions.sql.is_empty()),
            ("permissions.blobstore", !permissions.blobstore.is_empty()),
            ("permissions.keyvalue", !permissions.keyvalue.is_empty()),
            ("permissions.config", !permissions.config.is_empty()),
            ("permissions.sockets", !permissions.sockets.is_empty()),
        ];
        if let Some((name, _)) = asked.into_iter().find(|(_, asked)| *asked) {
            return Err(DocumentError::new(
                format!("{PATH}.{name}"),
                "not supported by this version",
            ));
        }
        let none = [
            (
                "limits.memory",
                self.limits.memory.is_some_and(|memory| memory.0 == 0),
            ),
            (
                "limits.time",
                self.limits.time.is_some_and(|time| time.0.is_zero()),
            ),
        ];
        match none.into_iter().find(|(_, none)| *none) {
            Some((name, _)) => Err(DocumentError::new(
                format!("{PATH}.{name}"),
                "must be more than 0",
            )),
            None => Ok(()),
        }
    }

    /// The environment variables.
    pub(super) fn environment(&self) -> Result<Vec<(String, String)>, DocumentError> {
        let variable = |(index, variable): (usize, &EnvVar)| {
            let at = format!("{PATH}.env[{index}]");
            if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
                return Err(DocumentError::new(
                    at,
                    format!("`{}` cannot be a variable's name", variable.name),
                ));
            }
            if variable.value_from.is_some() {
                return Err(DocumentError::new(
                    format!("{at}.valueFrom"),
                    "not supported by this version; use `value`",
                ));
            }
            Ok((
                variable.name.clone(),
                variable.value.clone().unwrap_or_default(),
            ))
        };
        self.env.iter().enumerate().map(variable).collect()
    }
}

impl Keyed {
    fn reference(&self) -> Result<Reference, Error> {
        match (&self.oci, &self.http, &self.wkg, &self.wapm, &self.bindle) {
            (Some(oci), None, None, None, None) => oci.reference().map(Reference::Oci),
            (None, Some(http), None, None, None) => http.reference(),
            (None, None, Some(package), None, None) => {
                WkgReference::parse(package.strip_prefix("wkg:").unwrap_or(package))
                    .map(Reference::Wkg)
            }
            (None, None, None, Some(package), None) => package.reference().map(Reference::Wasmer),
            (None, None, None, None, Some(bindle)) => bindle.reference().map(Reference::Bindle),
            _ => Err(Error::new(
                ErrorKind::InvalidReference,
                "give exactly one of `oci`, `http`, `wapm`, `bindle`, `wkg`",
            )),
        }
    }
}

impl Oci {
    fn reference(&self) -> Result<OciReference, Error> {
        let parse = |text: &str| OciReference::parse(text.strip_prefix("oci://").unwrap_or(text));
        let selected = match self {
            Self::Reference(reference) => return parse(reference),
            Self::Selected(selected) => selected,
        };
        let reference = parse(&selected.reference)?;
        match (&selected.path, &selected.layer) {
            (Some(path), None) => Ok(reference.with_select(Select::Path(path.clone()))),
            (None, Some(layer)) => Ok(reference.with_select(Select::Layer(layer.clone()))),
            (None, None) => Ok(reference),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidReference,
                "give `path` or `layer`, not both",
            )),
        }
    }
}

impl Wapm {
    fn reference(&self) -> Result<WasmerReference, Error> {
        let parse =
            |text: &str| WasmerReference::parse(text.strip_prefix("wapm://").unwrap_or(text));
        match self {
            Self::Package(package) => parse(package),
            Self::Detailed(WapmDetailed {
                package,
                command,
                registry,
                digest,
            }) => {
                let reference = parse(package)?.with_command(command.as_deref())?;
                Ok(reference
                    .with_registry(registry.as_deref())?
                    .with_digest(parse_digest(digest.as_ref())?))
            }
        }
    }
}

impl Bindle {
    fn reference(&self) -> Result<BindleReference, Error> {
        let parse =
            |text: &str| BindleReference::parse(text.strip_prefix("bindle://").unwrap_or(text));
        match self {
            Self::Id(id) => parse(id),
            Self::Detailed(BindleDetailed { id, server, parcel }) => Ok(parse(id)?
                .with_server(server.as_deref())?
                .with_parcel(parcel.clone())),
        }
    }
}

fn parse_digest(text: Option<&String>) -> Result<Option<Digest>, Error> {
    let digest = text.map(|text| text.parse::<Digest>()).transpose();
    digest.map_err(|error| Error::new(ErrorKind::InvalidReference, error.to_string()))
}

impl Http {
    fn reference(&self) -> Result<Reference, Error> {
        let HttpDetailed {
            url,
            digest,
            module_digest,
            auth_secret: _,
            headers,
        } = match self {
            Self::Url(url) => return HttpReference::new(url, None, None).map(Reference::Http),
            Self::Detailed(detailed) => detailed,
        };
        let (digest, module) = (
            parse_digest(digest.as_ref())?,
            parse_digest(module_digest.as_ref())?,
        );
        HttpReference::new(url, digest, module)?
            .with_headers(headers)
            .map(Reference::Http)
    }

    fn auth_secret(&self) -> Option<&SecretName> {
        match self {
            Self::Url(_) => None,
            Self::Detailed(detailed) => detailed.auth_secret.as_ref(),
        }
    }
}
