//! Packages of the Wasmer registry, the successor of WAPM.
//!
//! The registry has a GraphQL API. The schema is in the crate `wasmer-backend-api` (MIT).
//!
//! - The file of a package is a WEBC container, and the registry has its SHA-256. Old packages are
//!   archives without a digest.
//! - The download URL is signed and expires soon. So it is requested for each download and never
//!   stored.

use async_trait::async_trait;
use net::{Body, Caching, Request, display_url};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::credentials::preemptive;
use crate::reference::{Endpoint, WasmerReference};
use crate::source::{Context, Resolution, Source, Streamed};
use crate::{Digest, Error, ErrorKind, Part, Reference, Resolved, Unpack};

/// Host of the default registry.
pub const REGISTRY: &str = "registry.wasmer.io";
/// Former names of the default registry, and names that users write for it.
const OTHER_NAMES: [&str; 4] = [
    "wapm.io",
    "registry.wapm.io",
    "wasmer.io",
    "registry-cdn.wapm.io",
];
const API_PATH: &str = "/graphql";
const MAX_ANSWER: u64 = 4 << 20;

/// The only GraphQL query. Package names are variables and never part of the text.
pub const QUERY: &str = "query GetPackageVersion($name: String!, $version: String) {
  getPackageVersion(name: $name, version: $version) {
    version
    isArchived
    v3: distribution(version: V3) { ...files }
    v2: distribution(version: V2) { ...files }
  }
}
fragment files on PackageDistribution {
  downloadUrl
  piritaDownloadUrl
  piritaSha256Hash
  piritaSize
  webcDownloadUrl
  webcSha256Hash
  webcSize
}";

/// The `wapm` source.
#[derive(Clone, Debug)]
pub struct WasmerSource {
    registry: Endpoint,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    errors: Option<Vec<GraphQlError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    get_package_version: Option<PackageVersion>,
}

#[derive(Deserialize)]
struct GraphQlError {
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PackageVersion {
    version: String,
    is_archived: Option<bool>,
    v3: Option<Distribution>,
    v2: Option<Distribution>,
}

/// `PackageDistribution` of the schema. A container has the fields of `webc` or of `pirita`, its
/// former name.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Distribution {
    download_url: Option<String>,
    pirita_download_url: Option<String>,
    pirita_sha256_hash: Option<String>,
    pirita_size: Option<u64>,
    webc_download_url: Option<String>,
    webc_sha256_hash: Option<String>,
    webc_size: Option<u64>,
}

/// The fields of a container in the registry's response.
struct Container<'a> {
    url: Option<&'a str>,
    hash: Option<&'a str>,
    size: Option<u64>,
}

impl Distribution {
    fn containers(&self) -> [Container<'_>; 2] {
        let webc = Container {
            url: self.webc_download_url.as_deref(),
            hash: self.webc_sha256_hash.as_deref(),
            size: self.webc_size,
        };
        let pirita = Container {
            url: self.pirita_download_url.as_deref(),
            hash: self.pirita_sha256_hash.as_deref(),
            size: self.pirita_size,
        };
        [webc, pirita]
    }
}

/// A version of a package, with its current download URL.
struct Found {
    /// URL of the registry's API.
    api: Url,
    version: String,
    /// URL of the file.
    url: Url,
    /// Digest of the file. `None` for an archive.
    digest: Option<Digest>,
    /// Size of the file in bytes, if the registry sends it.
    size: Option<u64>,
}

impl WasmerSource {
    /// Creates a source. `registry` is the default registry instead of [`REGISTRY`]. A reference
    /// may name another registry.
    pub fn new(registry: Option<Endpoint>) -> Result<Self, Error> {
        Ok(Self {
            registry: registry.map_or_else(|| REGISTRY.parse(), Ok)?,
        })
    }

    /// Looks up the version and the download URL of a package.
    async fn find(&self, package: &WasmerReference, context: &Context<'_>) -> Result<Found, Error> {
        let registry = package.registry().unwrap_or(&self.registry);
        let url = api(registry.url(API_PATH, context.http)?);
        let version = package.version().unwrap_or("latest");
        let what = format!("package `{}@{version}`", package.package());
        let body = json!({
            "query": QUERY,
            "operationName": "GetPackageVersion",
            "variables": {"name": package.package(), "version": version},
        });
        let request = Request::post(url.clone(), "application/json", body.to_string().into());
        let answer = preemptive::send(&request, &what, context.http, context.keyrings).await?;
        if !answer.status.is_success() {
            return Err(answer.error(&what).into());
        }
        let bytes = answer.bytes(MAX_ANSWER, "the registry's response").await?;
        let shown = display_url(&url);
        let answer: Answer = go_json::from_slice(&bytes).map_err(|error| {
            Error::new(
                ErrorKind::Protocol,
                format!("the response of `{shown}` is not that of a Wasmer registry"),
            )
            .caused_by(error)
        })?;
        let found = answer.data.and_then(|data| data.get_package_version);
        let errors = answer.errors.unwrap_or_default();
        match (found, errors.first()) {
            (Some(found), _) => found.files(url, &what),
            (None, Some(error)) => {
                let message = error.message.as_deref().unwrap_or_default();
                let message: String = message
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(200)
                    .collect();
                Err(Error::new(
                    ErrorKind::Protocol,
                    format!("`{shown}` cannot look up {what}: {message}"),
                ))
            }
            (None, None) => Err(Error::new(
                ErrorKind::NotFound,
                format!("`{shown}` has no {what}"),
            )
            .with_hint(
                "check the name; for a private package, a token for the registry's host is needed",
            )),
        }
    }
}

/// Replaces the former names of the default registry by [`REGISTRY`].
fn api(mut url: Url) -> Url {
    if url
        .host_str()
        .is_some_and(|host| OTHER_NAMES.contains(&host))
        && url.port().is_none()
    {
        // Cannot fail: the URL has a host name already.
        let _ = url.set_host(Some(REGISTRY));
    }
    url
}

impl PackageVersion {
    /// Chooses the file to download: a container, or else the archive.
    fn files(self, api: Url, what: &str) -> Result<Found, Error> {
        if self.is_archived == Some(true) {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{what} was archived by its owner"),
            )
            .with_hint("choose another version"));
        }
        let malformed = |why: &str| {
            Error::new(
                ErrorKind::Protocol,
                format!("the registry's response for {what} {why}"),
            )
        };
        let parse = |url: &str| {
            Url::parse(url).map_err(|error| malformed("has no usable URL").caused_by(error))
        };
        let version = self.version;
        if semver::Version::parse(&version).is_err() {
            return Err(malformed("has an invalid version"));
        }
        let distributions = [self.v3, self.v2].into_iter().flatten().collect::<Vec<_>>();
        for container in distributions.iter().flat_map(Distribution::containers) {
            if let (Some(url), Some(hash)) = (container.url, container.hash) {
                let digest = format!("sha256:{hash}")
                    .parse()
                    .map_err(|_| malformed("has an invalid hash"))?;
                return Ok(Found {
                    api,
                    version,
                    url: parse(url)?,
                    digest: Some(digest),
                    size: container.size,
                });
            }
        }
        let archive = distributions
            .iter()
            .find_map(|files| files.download_url.as_deref());
        let url = parse(archive.ok_or_else(|| malformed("names no file"))?)?;
        Ok(Found {
            api,
            version,
            url,
            digest: None,
            size: None,
        })
    }
}

#[async_trait]
impl Source for WasmerSource {
    type Reference = WasmerReference;

    async fn resolve(
        &self,
        package: &WasmerReference,
        stored: Option<&Resolved>,
        context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        let found = self.find(package, context).await?;
        if package
            .version()
            .is_some_and(|version| version != found.version)
        {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the registry returned another version than the requested version",
            ));
        }
        let unpack = Unpack::Wasmer {
            command: package.command().map(str::to_owned),
        };
        let digest = match (package.digest(), found.digest.clone()) {
            (Some(pinned), Some(digest)) if *pinned != digest => {
                return Err(
                    crate::store::mismatch(pinned, &digest).context("the registry's package")
                );
            }
            (Some(digest), _) => digest.clone(),
            (None, Some(digest)) => digest,
            // The registry has no digest of an archive. The digest of the first download is stored,
            // and a published version does not change (trust on first use).
            (None, None) => {
                let origin = Reference::from(package.clone().at(found.version.clone()));
                if let Some(known) = stored.filter(|known| known.origin == origin) {
                    return Ok(known.clone().into());
                }
                let origin = Some(origin);
                let body = download(found, context).await?;
                let caching = Caching::default();
                let streamed = Streamed {
                    body,
                    unpack,
                    caching,
                    expected: None,
                    origin,
                };
                return Ok(Resolution::Streamed(Box::new(streamed)));
            }
        };
        let part = Part {
            digest: digest.clone(),
            size: found.size,
            media_type: None,
        };
        let origin = Reference::from(package.clone().at(found.version));
        Ok(Resolved {
            origin,
            ..Resolved::packed(package.clone(), digest, vec![part], unpack)
        }
        .into())
    }

    /// Resolving downloads an archive, because the registry has no digest of it.
    fn may_stream_on_resolve(&self, package: &WasmerReference) -> bool {
        package.digest().is_none()
    }

    fn server(&self, package: &WasmerReference) -> Option<String> {
        let registry = package.registry().unwrap_or(&self.registry);
        Some(registry.authority())
    }

    fn without_default_server(&self, package: &WasmerReference) -> Option<WasmerReference> {
        let named = package.registry()?;
        let is_default = match self.registry.as_str() {
            REGISTRY => named.as_str() == REGISTRY || OTHER_NAMES.contains(&named.as_str()),
            _ => *named == self.registry,
        };
        is_default.then(|| package.clone().in_default_registry())
    }

    async fn open_unverified(
        &self,
        package: &WasmerReference,
        _part: &Part,
        context: &Context<'_>,
    ) -> Result<Body, Error> {
        let found = self.find(package, context).await?;
        download(found, context).await
    }
}

/// Downloads the file of a package.
///
/// The file may be on another server. Credentials are sent only to the registry itself: the
/// registry must not choose another server that gets them.
async fn download(found: Found, context: &Context<'_>) -> Result<Body, Error> {
    let what = format!("file `{}`", found.url.path());
    let own = found.url.origin() == found.api.origin();
    let request = Request::get(found.url);
    let answer = if own {
        preemptive::send(&request, &what, context.http, context.keyrings).await?
    } else {
        context.http.send(&request).await?
    };
    if answer.status.as_u16() == 200 {
        Ok(answer.decoded_body()?)
    } else {
        Err(answer.error(&what).into())
    }
}
