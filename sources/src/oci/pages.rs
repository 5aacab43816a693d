//! Lists in pages. The registry names the next page in the header `Link` (RFC 8288), as the
//! distribution specification says for tags and for referrers.

use std::collections::HashSet;

use bytes::Bytes;
use net::{Request, Response, keeps_credentials, next_page};

use super::repository::Repository;
use super::{MAX_MANIFEST_BYTES, OciSource};
use crate::source::Context;
use crate::{Error, ErrorKind};

const MAX_PAGES: usize = 500;
/// The maximum size of all pages of one list.
const MAX_LIST_BYTES: usize = 16 << 20;

impl OciSource {
    /// Fetches all pages of a list. `path` is the path of the first page. `what` names the list in
    /// errors.
    ///
    /// Only the path and the query of a link are used, as in skopeo. Many registries behind a proxy
    /// write a scheme or a host that only the proxy knows. So the next page comes from the server
    /// that sent this page. After a redirect, this server is not the registry, and gets no
    /// credentials.
    pub(super) async fn pages(
        &self,
        repository: &Repository,
        path: &str,
        what: &str,
        context: &Context<'_>,
    ) -> Result<Vec<Bytes>, Error> {
        let first = repository.url(path, context)?;
        let mut url = first.clone();
        let mut seen = HashSet::new();
        let mut pages = Vec::new();
        let mut size = 0;
        while seen.insert(url.clone()) {
            let request = Request::get(url.clone());
            let answer = match keeps_credentials(&first, &url) {
                true => self.send(repository, &request, what, context).await?,
                false => send_without_credentials(&request, what, context).await?,
            };
            let sender = answer.url.clone();
            let next = next_page(&answer.headers, &answer.url)?;
            let page = answer.bytes(MAX_MANIFEST_BYTES, what).await?;
            size += page.len();
            pages.push(page);
            let Some(next) = next else { return Ok(pages) };
            if pages.len() == MAX_PAGES || size > MAX_LIST_BYTES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the {what} has more than {MAX_PAGES} pages or {MAX_LIST_BYTES} bytes"),
                )
                .with_hint("name a version or a digest in the reference"));
            }
            // A server behind a redirect may name the registry itself.
            url = match next.origin() == first.origin() {
                true => first.clone(),
                false => sender,
            };
            url.set_path(next.path());
            url.set_query(next.query());
            url.set_fragment(None);
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("the {what} has no end: a page links to an earlier page"),
        ))
    }
}

async fn send_without_credentials(
    request: &Request,
    what: &str,
    context: &Context<'_>,
) -> Result<Response, Error> {
    let answer = context.http.send(request).await?;
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(answer.error(what).into()),
    }
}
