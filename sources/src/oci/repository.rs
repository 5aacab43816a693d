//! A repository in a registry, and the addresses of its content.

use url::Url;

use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

/// The repository of a request, on one registry or mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repository {
    /// The host and port of the registry.
    pub(super) registry: String,
    /// The name of the repository, `library/alpine`.
    pub(super) name: String,
    /// Whether the reference names no registry, so that the registry is Docker Hub.
    pub(super) implied: bool,
}

impl Repository {
    /// The repository on the registry itself.
    pub(super) fn of(oci: &OciReference) -> Self {
        Self {
            registry: oci.registry().to_owned(),
            name: oci.repository().to_owned(),
            implied: oci.implies_docker_hub(),
        }
    }

    /// The repository on a mirror, `host[:port][/path]`. The path of the mirror comes before the
    /// name: `harbor.example/proxy` has `library/alpine` as `proxy/library/alpine`.
    pub(super) fn on_mirror(mirror: &str, oci: &OciReference) -> Self {
        let (registry, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        let name = match path {
            "" => oci.repository().to_owned(),
            path => format!("{path}/{}", oci.repository()),
        };
        Self {
            registry: registry.to_owned(),
            name,
            implied: false,
        }
    }

    /// `host[:port]/name`, for the choice of credentials.
    pub(super) fn target(&self) -> String {
        format!("{}/{}", self.registry, self.name)
    }

    /// The URL of content in the repository.
    pub(super) fn url(&self, path: &str, context: &Context<'_>) -> Result<Url, Error> {
        let Self { registry, name, .. } = self;
        let scheme = context.http.scheme(registry);
        Url::parse(&format!("{scheme}://{registry}/v2/{name}/{path}")).map_err(|error| {
            Error::new(
                ErrorKind::InvalidReference,
                format!("`{registry}` is not a registry's host"),
            )
            .caused_by(error)
        })
    }
}
