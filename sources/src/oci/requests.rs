//! Requests to a registry and its mirrors, with each credential in turn.

use net::{Request, Response};
use reqwest::Method;
use url::Url;

use super::OciSource;
use super::manifest::MANIFEST_TYPES;
use crate::credentials::Candidate;
use crate::credentials::preemptive::{self, MAX_CANDIDATES};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

impl OciSource {
    /// Asks the mirrors, and then the registry.
    pub(super) async fn request(
        &self,
        oci: &OciReference,
        path: &str,
        method: Method,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        for mirror in self
            .mirrors
            .get(oci.host())
            .filter(|_| !context.skip_mirrors)
            .into_iter()
            .flatten()
        {
            let there = Repository {
                registry: mirror,
                name: oci.repository(),
            };
            match self.request_from(there, path, &method, what, context).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::info!(mirror, %error, "the mirror does not have it; asking the next");
                }
            }
        }
        self.request_from(Repository::of(oci), path, &method, what, context)
            .await
    }

    async fn request_from(
        &self,
        repository: Repository<'_>,
        path: &str,
        method: &Method,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let url = repository.url(path, context)?;
        let accept = if path.starts_with("manifests/") {
            MANIFEST_TYPES.to_vec()
        } else {
            Vec::new()
        };
        let request = Request {
            method: method.clone(),
            accept,
            ..Request::get(url)
        };
        self.send(repository, &request, what, context).await
    }

    /// Sends with one credential after the other. Only where there are none, without: a wrong password must not look like a right one.
    pub(super) async fn send(
        &self,
        repository: Repository<'_>,
        request: &Request,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let Repository { registry, name } = repository;
        let mut candidates = context.candidates(&format!("{registry}/{name}"));
        candidates.truncate(MAX_CANDIDATES);
        let asking = if candidates.is_empty() {
            vec![None]
        } else {
            candidates.iter().map(Some).collect()
        };
        let mut refused = None;
        for who in asking {
            let answer = self.request_as(repository, request, who, context).await?;
            match answer.status.as_u16() {
                200..=299 => return Ok(answer),
                // Some say of what one may not see that it is not there; and a wrong password says nothing of what a right one was told.
                401 | 403 if refused.is_some() => {}
                401 | 403 | 404 => refused = Some(answer),
                _ => return Err(answer.error(what).into()),
            }
        }
        Err(match refused {
            Some(answer) if answer.status.as_u16() == 404 && candidates.is_empty() => {
                answer.error(what).into()
            }
            Some(answer) => preemptive::refused(&answer, what, &candidates, self.remedy),
            None => Error::new(
                ErrorKind::Protocol,
                format!("registry `{registry}` was not asked for {what}"),
            ),
        })
    }

    /// Asks with one credential, or none; on 401, once more with what the registry wants for it.
    async fn request_as(
        &self,
        repository: Repository<'_>,
        request: &Request,
        who: Option<&Candidate>,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let known = self.headers.known(repository, who)?;
        let answer = context
            .http
            .send(&Request {
                authorization: known,
                ..request.clone()
            })
            .await?;
        if answer.status.as_u16() != 401 {
            return Ok(answer);
        }
        self.headers.forget(repository, who);
        let obtained = self
            .headers
            .obtain(repository, who, &answer.headers, context)
            .await?;
        let Some(header) = obtained else {
            return Ok(answer);
        };
        let request = Request {
            authorization: Some(header),
            ..request.clone()
        };
        Ok(context.http.send(&request).await?)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repository<'a> {
    /// The registry's host and port.
    pub(super) registry: &'a str,
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
