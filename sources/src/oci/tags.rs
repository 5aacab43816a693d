//! The list of a repository's tags (`tags/list` of the distribution specification), page by page.

use reqwest::Method;
use serde::Deserialize;

use super::{MAX_MANIFEST_BYTES, OciSource};
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

const TAGS_IN_PAGE: usize = 1000;
const MAX_TAG_PAGES: usize = 20;

/// One page of the list.
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl OciSource {
    /// Lists all tags of a repository.
    pub(crate) async fn tags(
        &self,
        oci: &OciReference,
        context: &Context<'_>,
    ) -> Result<Vec<String>, Error> {
        let what = format!("list of tags of `{}`", oci.repository());
        let mut tags = Vec::new();
        let mut last = String::new();
        for _ in 0..MAX_TAG_PAGES {
            let path = match last.as_str() {
                "" => format!("tags/list?n={TAGS_IN_PAGE}"),
                last => format!("tags/list?n={TAGS_IN_PAGE}&last={last}"),
            };
            let answer = self
                .request(oci, &path, Method::GET, &what, context)
                .await?;
            let more = answer.headers.contains_key(reqwest::header::LINK);
            let bytes = answer.bytes(MAX_MANIFEST_BYTES, &what).await?;
            let page: Tags = serde_json::from_slice(&bytes).map_err(|error| {
                Error::new(ErrorKind::Protocol, format!("the {what} is malformed")).caused_by(error)
            })?;
            let page = page.tags.unwrap_or_default();
            // Tags have only letters, digits, `_`, `.` and `-`, which need no escaping in a URL.
            let next = page
                .last()
                .filter(|tag| {
                    tag.chars()
                        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                })
                .cloned();
            tags.extend(page);
            match next {
                Some(next) if more && next != last => last = next,
                _ => return Ok(tags),
            }
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!("the {what} has more than {MAX_TAG_PAGES} pages"),
        )
        .with_hint("name a version in the reference"))
    }
}
