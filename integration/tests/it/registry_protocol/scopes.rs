//! The scopes of tokens: the registry names them, and the token server gets them.

use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;

use super::{Asked, Server, assert_error, assert_ran, challenge, docker_config};
use crate::cli::{Cli, stderr};

/// The values of the parameter `scope` in a query or form.
fn scopes(encoded: &str) -> Vec<String> {
    url_pairs(encoded)
        .into_iter()
        .filter(|(name, _)| name == "scope")
        .map(|(_, value)| value)
        .collect()
}

fn url_pairs(encoded: &str) -> Vec<(String, String)> {
    let url = reqwest::Url::parse(&format!("http://h/?{encoded}")).unwrap();
    url.query_pairs().into_owned().collect()
}

/// Answers a request for a token: the token names its scopes.
fn token(asked: &Asked) -> Option<axum::response::Response> {
    (asked.path() == "/token").then(|| {
        let scopes = scopes(asked.query()).join(" ");
        json!({"token": format!("for {scopes}")})
            .to_string()
            .into_response()
    })
}

fn bearer(host: &str, rest: &str) -> axum::response::Response {
    challenge(&[format!(
        "Bearer realm=\"http://{host}/token\",service=\"s\"{rest}"
    )])
}

#[tokio::test]
async fn the_token_has_exactly_the_scopes_of_the_challenge() {
    for scope in [
        "repository:tool:pull",
        "repository:team/tool:pull",
        "repository:team/tool:metadata_read,pull",
        "repository:team/tool:pull repository:base/layers:pull",
        "registry:catalog:*",
        "aws",
    ] {
        let registry = Server::start(move |asked| {
            token(asked).or_else(|| {
                let is_right = asked.authorization() == format!("Bearer for {scope}");
                (!is_right).then(|| bearer(&asked.host, &format!(",scope=\"{scope}\"")))
            })
        })
        .await;
        assert_ran(&registry.run("team/tool:1").await, scope);
        let requests = registry.take_requests();
        let tokens = requests.iter().filter(|one| one.contains("/token"));
        assert_eq!(tokens.count(), 1, "{requests:?}");
    }
}

#[tokio::test]
async fn without_a_scope_in_the_challenge_the_token_is_for_the_repository() {
    for rest in ["", ",scope=\"\"", ",scope=\" \""] {
        let registry = Server::start(move |asked| {
            token(asked).or_else(|| {
                let is_right = asked.authorization() == "Bearer for repository:team/tool:pull";
                (!is_right).then(|| bearer(&asked.host, rest))
            })
        })
        .await;
        assert_ran(&registry.run("team/tool:1").await, rest);
    }
}

/// The registry wants one scope for manifests and another for blobs, and says so with 401 or with
/// 403.
#[tokio::test]
async fn a_token_without_the_needed_scope_is_replaced() {
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
        let registry = Server::start(move |asked| {
            token(asked).or_else(|| {
                let scope = match asked.path().contains("/blobs/") {
                    true => "repository:blobs:pull",
                    false => "repository:team/tool:pull",
                };
                let sent = asked.authorization();
                if sent == format!("Bearer for {scope}") {
                    return None;
                }
                let error = match sent {
                    "" => String::new(),
                    _ => ",error=\"insufficient_scope\"".to_owned(),
                };
                let mut answer = bearer(&asked.host, &format!(",scope=\"{scope}\"{error}"));
                if !sent.is_empty() {
                    *answer.status_mut() = status;
                }
                Some(answer)
            })
        })
        .await;
        assert_ran(&registry.run("team/tool:1").await, status.as_str());
    }
    // The token server grants less than the registry wants: the executor does not ask for ever.
    let registry = Server::start(|asked| {
        token(asked).or_else(|| {
            Some(bearer(
                &asked.host,
                ",scope=\"repository:x:pull\",error=\"insufficient_scope\"",
            ))
        })
    })
    .await;
    assert_error(&registry.run("team/tool:1").await, "401 Unauthorized");
    let requests = registry.take_requests();
    assert!(requests.len() <= 8, "{requests:?}");
}

/// A refresh token is sent in a form. There, scopes are separated with spaces.
#[tokio::test]
async fn a_refresh_token_is_exchanged_for_the_scopes_of_the_challenge() {
    let forms: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&forms);
    let registry = Server::start(move |asked| {
        if asked.path() == "/token" && asked.method == axum::http::Method::POST {
            let form = String::from_utf8(asked.body.to_vec()).unwrap();
            seen.lock().unwrap().push(form);
            return Some(
                r#"{"access_token": "T", "refresh_token": "new", "expires_in": 0, "token": null}"#
                    .into_response(),
            );
        }
        (asked.authorization() != "Bearer T").then(|| {
            bearer(
                &asked.host,
                ",scope=\"repository:a:pull repository:b:pull\"",
            )
        })
    })
    .await;
    let config = json!({"auths": {&registry.host: {"auth": "dXNlcjo=", "identitytoken": "r+/="}}});
    assert_ran(&registry.run_with(&config, "team/tool:1").await, "refresh");
    let forms = forms.lock().unwrap();
    let pairs = url_pairs(&forms[0]);
    for expected in [
        ("grant_type", "refresh_token"),
        ("refresh_token", "r+/="),
        ("service", "s"),
        ("scope", "repository:a:pull repository:b:pull"),
    ] {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert!(pairs.contains(&expected), "{pairs:?}");
    }
    assert_eq!(forms.len(), 1, "the token is used for a minute: {forms:?}");
}

/// The registry names another scope for each kind of request of a push, and accepts only a token
/// with exactly this scope.
#[tokio::test]
async fn a_push_follows_the_scope_of_each_challenge() {
    let registry = Server::start(|asked| {
        if let Some(token) = token(asked) {
            return Some(token);
        }
        let actions = match asked.method.as_str() {
            "GET" | "HEAD" => "pull",
            _ => "push,pull",
        };
        let scope = format!("repository:acme/m:{actions}");
        if asked.authorization() != format!("Bearer for {scope}") {
            return Some(bearer(&asked.host, &format!(",scope=\"{scope}\"")));
        }
        match asked.method.as_str() {
            "POST" => Some((StatusCode::ACCEPTED, [("location", "/v2/upload")]).into_response()),
            "PUT" => Some(StatusCode::CREATED.into_response()),
            _ => Some(StatusCode::FORBIDDEN.into_response()),
        }
    })
    .await;
    let cli = Cli::new();
    std::fs::create_dir_all(cli.at(".docker")).unwrap();
    let config = docker_config(&registry.host, "ada:s3cret").to_string();
    std::fs::write(cli.at(".docker/config.json"), config).unwrap();
    let pushed = registry.push(cli).await;
    assert_eq!(pushed.status.code(), Some(0), "{}", stderr(&pushed));
}
