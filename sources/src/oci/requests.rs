//! Requests to a registry and its mirrors. Each request tries the matching credentials in order.

use net::{Request, Response};
use reqwest::Method;

use super::OciSource;
use super::manifest::MANIFEST_TYPES;
use super::repository::Repository;
use crate::credentials::Candidate;
use crate::credentials::preemptive::{self, MAX_CANDIDATES};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

impl OciSource {
    /// Sends the request to each mirror in order, and then to the registry, until one succeeds.
    /// `what` names the resource in errors.
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
            let mirrored = Repository {
                registry: mirror,
                name: oci.repository(),
            };
            match self
                .request_from(mirrored, path, &method, what, context)
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::info!(
                        mirror,
                        %error,
                        "the request to the mirror failed; the next mirror or the registry is tried"
                    );
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

    /// Sends the request with each matching credential in turn, until the registry accepts one.
    ///
    /// The request is sent without credentials only if no credential matches. Otherwise a public
    /// repository would hide a wrong password.
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
        let attempts = if candidates.is_empty() {
            vec![None]
        } else {
            candidates.iter().map(Some).collect()
        };
        let mut refused = None;
        for candidate in attempts {
            let answer = self
                .request_as(repository, request, candidate, context)
                .await?;
            match answer.status.as_u16() {
                200..=299 => return Ok(answer),
                // Some registries return 404 for a repository that the user may not read. A later
                // 401 for a wrong password must not replace that 404.
                401 | 403 if refused.is_some() => {}
                401 | 403 | 404 => refused = Some(answer),
                _ => return Err(answer.error(what).into()),
            }
        }
        Err(match refused {
            Some(answer) if answer.status.as_u16() == 404 && candidates.is_empty() => {
                answer.error(what).into()
            }
            Some(answer) => preemptive::refused(&answer, what, &candidates, self.hint),
            None => Error::new(
                ErrorKind::Protocol,
                format!("no request for {what} was sent to registry `{registry}`"),
            ),
        })
    }

    /// Sends the request with one credential, or without. On 401, obtains the `Authorization`
    /// header that the challenge asks for, and sends the request once more.
    async fn request_as(
        &self,
        repository: Repository<'_>,
        request: &Request,
        candidate: Option<&Candidate>,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let known = self.headers.known(repository, candidate)?;
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
        self.headers.forget(repository, candidate);
        let obtained = self
            .headers
            .obtain(repository, candidate, &answer.headers, context)
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
