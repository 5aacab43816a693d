//! Lists of objects, page by page.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;

use crate::{Error, ErrorKind};

/// Verifies that the pages of a list follow each other. The SDK ends a list without an error if a
/// page names no next page, or names the same page again. Such a list is incomplete.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The token with which the last page was requested.
    token: Option<String>,
}

impl Pages {
    /// Verifies a page. `what` names the list in the error.
    pub(super) fn check(&mut self, page: &ListObjectsV2Output, what: &str) -> Result<(), Error> {
        let token = page
            .next_continuation_token()
            .filter(|token| !token.is_empty());
        let problem = match token {
            None if page.is_truncated() == Some(true) => "names no next page",
            Some(token) if self.token.as_deref() == Some(token) => "names the same page again",
            _ => {
                self.token = token.map(str::to_owned);
                return Ok(());
            }
        };
        let message = format!("{what} is incomplete: a page {problem}");
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(truncated: bool, token: Option<&str>) -> ListObjectsV2Output {
        ListObjectsV2Output::builder()
            .is_truncated(truncated)
            .set_next_continuation_token(token.map(str::to_owned))
            .build()
    }

    #[test]
    fn a_list_that_ends_too_soon_is_an_error() {
        let mut pages = Pages::default();
        pages.check(&page(true, Some("a")), "the list").unwrap();
        pages.check(&page(true, Some("b")), "the list").unwrap();
        let again = pages.check(&page(true, Some("b")), "the list").unwrap_err();
        assert_eq!(
            again.to_string(),
            "the list is incomplete: a page names the same page again"
        );
        for token in [None, Some("")] {
            let none = Pages::default().check(&page(true, token), "the list");
            let message = none.unwrap_err().to_string();
            assert_eq!(message, "the list is incomplete: a page names no next page");
        }
        Pages::default()
            .check(&page(false, None), "the list")
            .unwrap();
    }
}
