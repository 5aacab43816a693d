//! The list of a repository's tags (`tags/list` of the distribution specification).

use serde::Deserialize;

use super::OciSource;
use super::repository::Repository;
use crate::reference::OciReference;
use crate::source::Context;
use crate::{Error, ErrorKind};

/// The requested number of tags in one page. Registries may send fewer.
const TAGS_IN_PAGE: usize = 1000;

/// One page of the list.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tags {
    tags: Vec<String>,
}

impl OciSource {
    /// Lists all tags of a repository.
    pub(crate) async fn tags(
        &self,
        oci: &OciReference,
        context: &Context<'_>,
    ) -> Result<Vec<String>, Error> {
        self.first_of_servers(oci, context, |repository| async move {
            self.tags_of(&repository, context).await
        })
        .await
    }

    async fn tags_of(
        &self,
        repository: &Repository,
        context: &Context<'_>,
    ) -> Result<Vec<String>, Error> {
        let what = format!("list of tags of `{}`", repository.name);
        let path = format!("tags/list?n={TAGS_IN_PAGE}");
        let pages = match self.pages(repository, &path, &what, context).await {
            // A few registries refuse a page of this size.
            Err(error) if error.kind() == ErrorKind::Protocol => {
                self.pages(repository, "tags/list", &what, context).await
            }
            pages => pages,
        };
        let mut tags = Vec::new();
        for page in pages? {
            let page: Tags = go_json::from_slice(&page).map_err(|error| {
                let message = format!("the {what} is malformed: {error}");
                Error::new(ErrorKind::Protocol, message).caused_by(error)
            })?;
            tags.extend(page.tags);
        }
        Ok(tags)
    }
}
