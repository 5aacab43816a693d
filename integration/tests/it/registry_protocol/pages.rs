//! Lists in pages: each page names the next one in `Link`.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Asked, Server, assert_error, assert_ran, basic, challenge};

/// Runs the newest version of a package.
async fn run(host: &str, others: &[&str], docker_config: &Value) -> Value {
    let insecure: Vec<&str> = [host].iter().chain(others).copied().collect();
    let config = json!({"sources": {"insecure": insecure, "wkg": {"default": host}}});
    super::run(&config, docker_config, json!({"wkg": "acme:tool"})).await
}

/// One page of the list of tags: the tags `1.FIRST.0` and the next one.
fn page(first: usize, links: &[String]) -> Response {
    let tags = [first, first + 1].map(|number| format!("1.{number}.0"));
    let mut answer = json!({"name": "acme/tool", "tags": tags})
        .to_string()
        .into_response();
    for link in links {
        answer.headers_mut().append("link", link.parse().unwrap());
    }
    answer
}

/// The number in the parameter `cursor`.
fn cursor(asked: &Asked) -> usize {
    let mut pairs = asked.query().split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix("cursor="));
    value.map_or(0, |value| value.parse().unwrap())
}

/// The newest of six versions is on the third page.
const NEWEST: &str = "/v2/acme/tool/manifests/1.5.0";

#[tokio::test]
async fn pages_are_followed_by_their_link_in_every_form() {
    type Links = fn(&str, &str) -> Vec<String>;
    let forms: [Links; 9] = [
        |_, next| vec![format!("</v2/acme/tool/tags/list?{next}>; rel=\"next\"")],
        |host, next| {
            vec![format!(
                "<http://{host}/v2/acme/tool/tags/list?{next}>;rel=next"
            )]
        },
        // Behind a proxy, the registry does not know its own address.
        |_, next| {
            vec![format!(
                "<https://registry.internal:5000/v2/acme/tool/tags/list?{next}>; rel=next"
            )]
        },
        |_, next| {
            vec![format!(
                "<list?{next}>; title=\"a, b; rel=prev\"; Rel=\"last  Next\""
            )]
        },
        |_, next| vec![format!("<?{next}> ; type=\"x\" ; rel = next")],
        |_, next| {
            vec![format!(
                "</first>; rel=\"first\", <list?{next}>; rel=\"next\", </last>; rel=last"
            )]
        },
        |_, next| {
            vec![
                "</first>; rel=first".to_owned(),
                format!("<list?{next}>; rel=next"),
            ]
        },
        |_, next| vec![format!("<list?{next}>")],
        |_, next| vec![format!(" , ,<list?a=%2C,;&{next}>; rel=next;")],
    ];
    for (number, links) in forms.into_iter().enumerate() {
        let registry = Server::start(move |asked| {
            if !asked.path().ends_with("/tags/list") {
                return None;
            }
            let first = cursor(asked);
            let next = format!("cursor={}", first + 2);
            let links = match first < 4 {
                true => links(&asked.host, &next),
                false => vec![
                    "</v2/acme/tool/tags/list>; rel=\"first\"".to_owned(),
                    "</x>; rel=last".to_owned(),
                ],
            };
            Some(page(first, &links))
        })
        .await;
        assert_ran(
            &run(&registry.host, &[], &json!({})).await,
            &number.to_string(),
        );
        let requests = registry.take_requests();
        assert!(
            requests.iter().any(|one| one.ends_with(NEWEST)),
            "form {number}: {requests:?}"
        );
    }
}

/// The link leads to another host, which records the credentials that it gets.
#[tokio::test]
async fn credentials_are_not_sent_to_the_host_of_a_link() {
    let other = Server::start(|asked| {
        assert_eq!(asked.authorization(), "");
        Some(page(90, &[]))
    })
    .await;
    let target = Arc::new(other.host.clone());
    let registry = Server::start(move |asked| {
        let is_metadata = asked.path().starts_with("/.well-known/");
        if !is_metadata && asked.authorization() != basic("ada:s3cret") {
            return Some(challenge(&["Basic".to_owned()]));
        }
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| match cursor(asked) {
            0 => page(
                0,
                &[format!(
                    "<http://{target}/v2/acme/tool/tags/list?cursor=2>; rel=next"
                )],
            ),
            first => page(first, &[]),
        })
    })
    .await;
    let config = super::docker_config(&registry.host, "ada:s3cret");
    let node = run(&registry.host, &[&other.host], &config).await;
    assert_ran(&node, "the page is on the same host");
    assert_eq!(other.take_requests(), Vec::<String>::new());
    let requests = registry.take_requests();
    assert!(
        requests.iter().any(|one| one.ends_with("/manifests/1.3.0")),
        "{requests:?}"
    );
}

/// RFC 3986, section 5.1.3: the base of a relative link is the URL of the answer, behind redirects.
#[tokio::test]
async fn a_relative_link_behind_a_redirect_leads_to_the_server_that_answered() {
    let other = Server::start(|asked| {
        assert_eq!(asked.authorization(), "");
        let first = cursor(asked);
        let links = match first {
            0 => vec!["<more?cursor=2>; rel=next".to_owned()],
            2 => vec!["<https://other.internal/v2/lists/tool/more?cursor=4>; rel=next".to_owned()],
            _ => Vec::new(),
        };
        Some(page(first, &links))
    })
    .await;
    let target = Arc::new(other.host.clone());
    let registry = Server::start(move |asked| {
        if asked.path().starts_with("/.well-known/") {
            return None;
        }
        if asked.authorization() != basic("ada:s3cret") {
            return Some(challenge(&["Basic".to_owned()]));
        }
        let location = format!("http://{target}/v2/lists/tool/first");
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response())
    })
    .await;
    let config = super::docker_config(&registry.host, "ada:s3cret");
    let node = run(&registry.host, &[&other.host], &config).await;
    assert_ran(&node, "three pages of the other server");
    assert_eq!(
        other.take_requests(),
        [
            "GET /v2/lists/tool/first",
            "GET /v2/lists/tool/more?cursor=2",
            "GET /v2/lists/tool/more?cursor=4"
        ]
    );
    let requests = registry.take_requests();
    assert!(
        requests.iter().any(|one| one.ends_with(NEWEST)),
        "{requests:?}"
    );
}

/// The other server asks for credentials, or names the registry itself.
#[tokio::test]
async fn the_server_behind_a_redirect_gets_no_credentials_and_may_lead_back() {
    for leads_back in [false, true] {
        let back = Arc::new(std::sync::Mutex::new(String::new()));
        let registry_host = Arc::clone(&back);
        let other = Server::start(move |asked| {
            assert_eq!(asked.authorization(), "");
            let registry = registry_host.lock().unwrap();
            match (leads_back, cursor(asked)) {
                (true, _) => {
                    let url = format!("http://{registry}/v2/acme/tool/tags/list?cursor=4");
                    Some(page(0, &[format!("<{url}>; rel=next")]))
                }
                (false, 0) => Some(page(0, &["<?cursor=2>; rel=next".to_owned()])),
                (false, _) => Some(challenge(&["Basic".to_owned()])),
            }
        })
        .await;
        let target = Arc::new(other.host.clone());
        let registry = Server::start(move |asked| {
            if asked.path().starts_with("/.well-known/") {
                return None;
            }
            if asked.authorization() != basic("ada:s3cret") {
                return Some(challenge(&["Basic".to_owned()]));
            }
            if !asked.path().ends_with("/tags/list") {
                return None;
            }
            Some(match cursor(asked) {
                0 => {
                    let location = format!("http://{target}/list");
                    (StatusCode::FOUND, [("location", location)]).into_response()
                }
                first => page(first, &[]),
            })
        })
        .await;
        back.lock().unwrap().clone_from(&registry.host);
        let config = super::docker_config(&registry.host, "ada:s3cret");
        let node = run(&registry.host, &[&other.host], &config).await;
        match leads_back {
            true => assert_ran(&node, "the registry has the last page"),
            false => assert_error(&node, "refuses list of tags of `acme/tool` (401"),
        }
    }
}

#[tokio::test]
async fn the_list_of_tags_is_read_as_go_reads_it() {
    let registry = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| match cursor(asked) {
            0 => {
                let link = [("link", "<?cursor=2>; rel=next")];
                (link, r#"{"name": null, "tags": null}"#).into_response()
            }
            _ => r#"{"Name": "x", "Tags": ["1.5.0", null]}"#.into_response(),
        })
    })
    .await;
    assert_ran(&run(&registry.host, &[], &json!({})).await, "1.5.0");
    let malformed = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| r#"{"tags": {"a": 1}}"#.into_response())
    })
    .await;
    assert_error(
        &run(&malformed.host, &[], &json!({})).await,
        "the list of tags of `acme/tool` is malformed: `tags`: expected a list, found a map",
    );
}

#[tokio::test]
async fn pages_without_an_end_are_an_error() {
    let circle = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| page(0, &["<list?cursor=0>; rel=next".to_owned()]))
    })
    .await;
    let node = run(&circle.host, &[], &json!({})).await;
    assert_error(&node, "has no end: a page links to an earlier page");
    let endless = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        let next = format!("<list?cursor={}>; rel=next", cursor(asked) + 1);
        is_list.then(|| page(0, &[next]))
    })
    .await;
    let node = run(&endless.host, &[], &json!({})).await;
    assert_error(&node, "has more than 500 pages");
    let broken = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| page(0, &["<http://[>; rel=next".to_owned()]))
    })
    .await;
    let node = run(&broken.host, &[], &json!({})).await;
    assert_error(&node, "sends a `Link` to the next page that is not a URL");
}

#[tokio::test]
async fn a_registry_that_refuses_the_size_of_a_page_is_asked_without_one() {
    let registry = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| match asked.query() {
            "" => page(4, &[]),
            _ => StatusCode::BAD_REQUEST.into_response(),
        })
    })
    .await;
    assert_ran(&run(&registry.host, &[], &json!({})).await, "without `n`");
    let requests = registry.take_requests();
    assert!(
        requests.iter().any(|one| one.ends_with(NEWEST)),
        "{requests:?}"
    );
}

/// The pages of one list come from one server: a page that a mirror does not have is not taken from
/// the registry.
#[tokio::test]
async fn all_pages_come_from_the_same_server() {
    let registry = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| match asked.query().contains("page=2") {
            true => StatusCode::NOT_FOUND.into_response(),
            false => page(4, &[]),
        })
    })
    .await;
    let mirror = Server::start(|asked| {
        let is_list = asked.path().ends_with("/tags/list");
        is_list.then(|| match asked.query().contains("page=2") {
            true => StatusCode::NOT_FOUND.into_response(),
            false => page(90, &["<list?page=2>; rel=next".to_owned()]),
        })
    })
    .await;
    let host = registry.host.as_str();
    let config = json!({"sources": {"insecure": [host, mirror.host], "wkg": {"default": host}, "mirrors": {host: [mirror.host]}}});
    let node = super::run(&config, &json!({}), json!({"wkg": "acme:tool"})).await;
    assert_ran(&node, "the list of the registry");
    let requests = mirror.take_requests();
    assert!(
        requests.iter().any(|one| one.ends_with(NEWEST)),
        "{requests:?}"
    );
}
