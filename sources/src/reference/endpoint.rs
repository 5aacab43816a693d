//! The address of a registry's API, as it is written in references and in the configuration.

use std::fmt;
use std::str::FromStr;

use net::{Http, authority};
use serde::{Deserialize, Serialize};
use url::Url;

use super::invalid;
use crate::Error;

/// `host[:port][/path]`, or a URL. Without a scheme, HTTPS is used, or plain HTTP if the operator
/// lists the host as insecure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, with the port if that is not the default port. The operator's rules use this form.
    pub(crate) fn authority(&self) -> String {
        parse(&self.0, "https").map_or_else(|_| self.0.clone(), |url| authority(&url))
    }

    /// The URL of the API. `path` is the path if the text has none.
    pub(crate) fn url(&self, path: &str, http: &Http) -> Result<Url, Error> {
        let host = self.0.split('/').next().unwrap_or_default();
        let scheme = http.scheme(host);
        let mut url = parse(&self.0, scheme)?;
        if url.path() == "/" {
            url.set_path(path);
        }
        Ok(url)
    }
}

/// The URL. `scheme` is the scheme if the text has none.
fn parse(text: &str, scheme: &str) -> Result<Url, Error> {
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("{scheme}://{text}"))
    };
    url.map_err(|error| malformed(text).caused_by(error))
}

fn malformed(text: &str) -> Error {
    invalid(
        text,
        "it must be `host`, `host:port`, or the URL of an API, without user, query and fragment",
    )
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let url = parse(text, "https")?;
        let plain = matches!(url.scheme(), "https" | "http")
            && url.host_str().is_some_and(|host| !host.ends_with('.'))
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(malformed(text))
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
