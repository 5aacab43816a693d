//! Links between the pages of a list: the header `Link` (RFC 8288).

use reqwest::header::{HeaderMap, LINK};
use url::Url;

use crate::authority::origin;
use crate::field::{skip_element, skip_empty_elements, skip_space, token, value};
use crate::{Error, ErrorKind};

/// The characters that end a value without quotes.
const END: [char; 4] = [' ', '\t', ';', ','];

/// One link. Parameters other than `rel` are ignored.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    target: String,
    /// The types of the relation, with spaces between them.
    rel: Option<String>,
}

/// The URL of the page that follows a response from `base`. `None` for the last page.
///
/// The server chooses the parameters of the URL. The URL can be on another server, to which the
/// caller must not send credentials. A link without `rel` counts if the response has no other
/// link: a few registries leave `rel` out.
///
/// # Errors
///
/// The link to the next page is not a URL.
pub fn next_page(headers: &HeaderMap, base: &Url) -> Result<Option<Url>, Error> {
    let values = headers.get_all(LINK).iter();
    let links: Vec<Link> = values
        .flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let next = match links.iter().find(|link| link.is_next()) {
        Some(link) => link,
        None => match links.as_slice() {
            [link] if link.rel.is_none() => link,
            _ => return Ok(None),
        },
    };
    base.join(&next.target).map(Some).map_err(|error| {
        let message = format!(
            "{} sends a `Link` to the next page that is not a URL",
            origin(base)
        );
        Error::new(ErrorKind::Protocol, message).caused_by(error)
    })
}

impl Link {
    fn is_next(&self) -> bool {
        let mut types = self.rel.iter().flat_map(|rel| rel.split_whitespace());
        types.any(|name| name.eq_ignore_ascii_case("next"))
    }
}

/// Reads the links in the value of one header. Malformed parts are skipped.
fn parse(header: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut rest = skip_empty_elements(header);
    while !rest.is_empty() {
        let target = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        rest = match target {
            Some((target, parameters)) => {
                let mut link = Link {
                    target: target.to_owned(),
                    rel: None,
                };
                let rest = link.read_parameters(parameters);
                links.push(link);
                rest
            }
            None => skip_element(rest),
        };
        rest = skip_empty_elements(rest);
    }
    links
}

impl Link {
    /// Reads the parameters. Returns the text behind the link.
    fn read_parameters<'a>(&mut self, text: &'a str) -> &'a str {
        let mut rest = skip_space(text);
        while let Some(parameter) = rest.strip_prefix(';') {
            let name = token(skip_space(parameter));
            rest = skip_space(name.rest);
            let Some(parsed) = value(name.rest, &END) else {
                continue;
            };
            // The first `rel` counts (RFC 8288, section 3.3).
            if name.value.eq_ignore_ascii_case("rel") && self.rel.is_none() {
                self.rel = Some(parsed.value.unwrap_or_default());
            }
            rest = skip_space(parsed.rest);
        }
        skip_element(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LINK, value.parse().unwrap());
        }
        let base = "https://r.example/v2/a/tags/list?n=2".parse().unwrap();
        let url = next_page(&headers, &base).unwrap();
        url.map(|url| url.to_string())
    }

    #[test]
    fn the_next_page_is_found_in_every_form_of_the_header() {
        let expected = Some("https://r.example/v2/a/tags/list?last=b,c&n=2".to_owned());
        for values in [
            &[r#"</v2/a/tags/list?last=b,c&n=2>; rel="next""#][..],
            &["<https://r.example/v2/a/tags/list?last=b,c&n=2>;rel=next"],
            &["<list?last=b,c&n=2> ; title = \"a, b; rel=first\" ; REL = \"Prev  NEXT\""],
            &["<?last=b,c&n=2>; rel=next; type=\"text/x\""],
            &[
                r#"</first>; rel="first", </v2/a/tags/list?last=b,c&n=2>; rel="next", </l>; rel=last"#,
            ],
            &[
                r#"</first>; rel="first""#,
                "<list?last=b,c&n=2>; rel=next; rel=first",
            ],
            &[r#", garbage "x, y", <list?last=b,c&n=2>; crossorigin; rel="next""#],
            &["<list?last=b,c&n=2>"],
        ] {
            assert_eq!(next(values), expected, "{values:?}");
        }
    }

    #[test]
    fn other_links_are_not_the_next_page() {
        for values in [
            &[][..],
            &[""],
            &[r#"</a>; rel="first", </b>; rel="last""#],
            &["</a>; rel=prev; rel=next"],
            &["</a>; rel=nextish", "</b>"],
            &["</a", "rel=next"],
            &[r#"</a>; title="rel=next"; rel=prev"#],
        ] {
            assert_eq!(next(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_link_that_is_not_a_url_is_an_error() {
        let headers = HeaderMap::from_iter([(LINK, "<https://[>; rel=next".parse().unwrap())]);
        let base = "https://r.example/x".parse().unwrap();
        let error = next_page(&headers, &base).unwrap_err();
        assert!(error.to_string().contains("not a URL"), "{error}");
    }
}
