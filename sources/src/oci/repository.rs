//! A repository in a registry, and the addresses of its content.

use url::Url;

use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

/// The repository of a request, on one registry or mirror.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository<'a> {
    /// The host and port of the registry.
    pub(super) registry: &'a str,
    /// The name of the repository, `library/alpine`.
    pub(super) name: &'a str,
}

impl<'a> Repository<'a> {
    pub(super) fn of(oci: &'a OciReference) -> Self {
        Self {
            registry: oci.registry(),
            name: oci.repository(),
        }
    }

    pub(super) fn url(self, path: &str, context: &Context<'_>) -> Result<Url, Error> {
        let Self { registry, name } = self;
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
