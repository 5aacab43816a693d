//! The fields of an HTTP artifact in a template.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::host::SecretKeySelector;

/// `http` of an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpLocation {
    /// URL of the artifact.
    pub url: String,
    /// Headers of every request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Credentials for the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<HttpAuth>,
}

/// A header of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Name of the header.
    pub name: String,
    /// Value of the header.
    pub value: String,
}

/// `http.auth`: credentials of one of three kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpAuth {
    /// A TLS client certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub client_cert: ClientCertAuth,
    /// A token of the OAuth 2.0 client credentials grant (RFC 6749, 4.4).
    #[serde(skip_serializing_if = "is_default")]
    pub oauth2: OAuth2Auth,
    /// A user name and a password.
    #[serde(skip_serializing_if = "is_default")]
    pub basic_auth: BasicAuth,
}

/// `http.auth.basicAuth`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BasicAuth {
    /// Secret with the user name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username_secret: Option<SecretKeySelector>,
    /// Secret with the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretKeySelector>,
}

/// `http.auth.clientCert`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientCertAuth {
    /// Secret with the client certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<SecretKeySelector>,
    /// Secret with the private key of the client certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key_secret: Option<SecretKeySelector>,
}

/// `http.auth.oauth2`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OAuth2Auth {
    /// Secret with the client identifier.
    #[serde(rename = "clientIDSecret", skip_serializing_if = "Option::is_none")]
    pub client_id_secret: Option<SecretKeySelector>,
    /// Secret with the client secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_secret: Option<SecretKeySelector>,
    /// Secret with the URL of the token server.
    #[serde(rename = "tokenURLSecret", skip_serializing_if = "Option::is_none")]
    pub token_url_secret: Option<SecretKeySelector>,
    /// Scopes of the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Additional parameters of the request for the token.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoint_params: Vec<EndpointParam>,
}

/// `http.auth.oauth2.endpointParams[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointParam {
    /// Name of the parameter.
    pub key: String,
    /// Value of the parameter.
    #[serde(default)]
    pub value: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
