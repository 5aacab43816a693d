//! Where a registry's API is, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::Url;

use super::invalid;
use crate::Error;
use crate::transport::Http;

/// `host[:port][/path]`, or a URL. Without a scheme it is HTTPS, unless plain HTTP is spoken to the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its host, with the port where that says something: what the operator's rules are about.
    pub(super) fn authority(&self) -> String {
        let text = if self.0.contains("://") { self.0.clone() } else { format!("https://{}", self.0) };
        let Ok(url) = Url::parse(&text) else { return self.0.clone() };
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The API's URL; `path` is where it is on a host that is named alone.
    pub(crate) fn url(&self, path: &str, http: &Http) -> Result<Url, Error> {
        let text = match self.0.split_once("://") {
            Some(_) => self.0.clone(),
            None => format!("{}://{}", http.scheme(self.0.split('/').next().unwrap_or_default()), self.0),
        };
        let mut url = Url::parse(&text).map_err(|error| malformed(&self.0).caused_by(error))?;
        if url.path() == "/" {
            url.set_path(path);
        }
        Ok(url)
    }
}

fn malformed(text: &str) -> Error {
    invalid(text, "it must be `host`, `host:port`, or the URL of an API, without user, query and fragment")
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| malformed(text).caused_by(error))?;
        let plain = matches!(url.scheme(), "https" | "http")
            && url.host_str().is_some_and(|host| !host.ends_with('.'))
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain { Ok(Self(text.to_owned())) } else { Err(malformed(text)) }
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
