//! Requests to a registry and its mirrors. Each request tries the matching credentials in order.

use std::future::Future;

use net::{Request, Response};
use reqwest::Method;

use super::OciSource;
use super::auth::{Client, is_challenge};
use super::manifest::MANIFEST_TYPES;
use super::repository::Repository;
use crate::credentials::preemptive::{self, MAX_CANDIDATES};
use crate::credentials::{self, Candidate};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

/// How often one request is sent with one credential: without a token, with a token that expired,
/// and with tokens for two different scopes.
const MAX_ATTEMPTS: usize = 4;

impl OciSource {
    /// Sends the request to each mirror in order, and then to the registry, until one succeeds.
    /// `what` names the resource in errors.
    pub(super) async fn request(
        &self,
        oci: &OciReference,
        path: &str,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        self.first_of_servers(oci, context, |repository| async move {
            self.request_to(&repository, path, Method::GET, what, context)
                .await
        })
        .await
    }

    /// Asks each mirror in order, and then the registry, until one succeeds.
    pub(super) async fn first_of_servers<T, F: Future<Output = Result<T, Error>>>(
        &self,
        oci: &OciReference,
        context: &Context<'_>,
        ask: impl Fn(Repository) -> F,
    ) -> Result<T, Error> {
        let mirrors = self.mirrors.get(oci.host());
        for mirror in mirrors
            .filter(|_| !context.skip_mirrors)
            .into_iter()
            .flatten()
        {
            match ask(Repository::on_mirror(mirror, oci)).await {
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
        ask(Repository::of(oci)).await
    }

    /// Sends the request to one server.
    pub(super) async fn request_to(
        &self,
        repository: &Repository,
        path: &str,
        method: Method,
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
            method,
            accept,
            ..Request::get(url)
        };
        self.send(repository, &request, what, context).await
    }

    /// Sends the request with each matching credential in turn, until the registry accepts one.
    ///
    /// The error of a refused request says which credentials were not used, and that a reference
    /// without a registry means Docker Hub.
    pub(super) async fn send(
        &self,
        repository: &Repository,
        request: &Request,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let answer = self.send_as_each(repository, request, what, context).await;
        let target = format!("{}/{}", repository.registry, repository.name);
        answer.map_err(|error| {
            let error = credentials::explain(error, context.keyrings, &target);
            let is_refused = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unauthorized);
            match repository.implied && is_refused {
                true => error.followed_by(&format!(
                    "this is docker.io/{}: a reference without a registry means Docker Hub",
                    repository.name
                )),
                false => error,
            }
        })
    }

    /// The request is sent without credentials only if no credential matches. Otherwise a public
    /// repository would hide a wrong password.
    async fn send_as_each(
        &self,
        repository: &Repository,
        request: &Request,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let mut candidates = context.candidates(&repository.target());
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
                format!(
                    "no request for {what} was sent to registry `{}`",
                    repository.registry
                ),
            ),
        })
    }

    /// Sends the request with one credential, or without. On a challenge, obtains the
    /// `Authorization` header that the challenge asks for, and sends the request again.
    async fn request_as(
        &self,
        repository: &Repository,
        request: &Request,
        candidate: Option<&Candidate>,
        context: &Context<'_>,
    ) -> Result<Response, Error> {
        let client = Client {
            repository,
            candidate,
            context,
        };
        let mut sent = self.headers.known(client)?;
        let mut attempts = 0;
        loop {
            let request = Request {
                authorization: sent.as_ref().map(|sent| sent.header.clone()),
                ..request.clone()
            };
            let answer = context.http.send(&request).await?;
            attempts += 1;
            if attempts == MAX_ATTEMPTS || !is_challenge(answer.status, &answer.headers) {
                return Ok(answer);
            }
            let next = self
                .headers
                .obtain(client, &answer.headers, sent.as_ref())
                .await?;
            if next.is_none() {
                return Ok(answer);
            }
            sent = next;
        }
    }
}
