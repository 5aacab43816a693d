//! Answers of token servers, as lenient and as wrong as they are found.

use axum::http::StatusCode;
use axum::response::IntoResponse;

use serde_json::json;

use super::{Server, assert_error, assert_ran, basic, challenge};

/// A registry that wants the token `T`, and a token server with this answer.
async fn start(status: u16, content_type: &'static str, answer: &'static str) -> Server {
    let status = StatusCode::from_u16(status).unwrap();
    Server::start(move |asked| {
        if asked.path() == "/token" {
            let headers = [("content-type", content_type)];
            return Some((status, headers, answer).into_response());
        }
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", asked.host);
        (asked.authorization() != "Bearer T").then(|| challenge(&[realm]))
    })
    .await
}

#[tokio::test]
async fn token_answers_are_read_as_docker_and_skopeo_read_them() {
    for answer in [
        r#"{"token": "", "access_token": "T"}"#,
        r#"{"token": null, "access_token": "T", "expires_in": null, "issued_at": null}"#,
        r#"{"access_token": "T", "expires_in": 0}"#,
        r#"{"token": "T", "expires_in": -5, "issued_at": "0001-01-01T00:00:00Z"}"#,
        r#"{"token": "T", "expires_in": "300", "issued_at": "yesterday"}"#,
        r#"{"Token": "T", "Expires_in": 300}"#,
        r#"{"token": "T", "expires_in": 1, "issued_at": "1999-01-01T00:00:00Z", "scope": [1]}"#,
    ] {
        for content_type in ["application/json", "text/plain", "application/octet-stream"] {
            let registry = start(200, content_type, answer).await;
            assert_ran(&registry.run("team/tool:1").await, answer);
            let requests = registry.take_requests();
            let tokens = requests.iter().filter(|one| one.contains("/token"));
            assert_eq!(
                tokens.count(),
                1,
                "one token for all requests: {requests:?}"
            );
        }
    }
}

/// A token server that answers `POST` with this status, and knows the login for `GET`.
async fn start_without_oauth(status: u16, login: &'static str) -> Server {
    let status = StatusCode::from_u16(status).unwrap();
    Server::start(move |asked| {
        if asked.path() == "/token" {
            let is_right = asked.authorization() == basic(login);
            return Some(match (asked.method.as_str(), is_right) {
                ("GET", true) => r#"{"token": "T"}"#.into_response(),
                ("GET", false) => StatusCode::UNAUTHORIZED.into_response(),
                _ => status.into_response(),
            });
        }
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", asked.host);
        (asked.authorization() != "Bearer T").then(|| challenge(&[realm]))
    })
    .await
}

/// Old registries do not support OAuth 2. containerd tries `GET` after these statuses, with the
/// refresh token as the password.
#[tokio::test]
async fn a_token_server_that_refuses_the_post_of_a_refresh_token_is_asked_with_get() {
    for (status, entry, login) in [
        (404, json!({"identitytoken": "r"}), ":r"),
        (405, json!({"identitytoken": "r"}), ":r"),
        (401, json!({"identitytoken": "r"}), ":r"),
        (400, json!({"identitytoken": "r"}), ":r"),
        (
            404,
            json!({"identitytoken": "r", "auth": "dXNlcjo="}),
            "user:r",
        ),
        (
            404,
            json!({"identitytoken": "r", "username": "u", "password": "p"}),
            "u:p",
        ),
    ] {
        let registry = start_without_oauth(status, login).await;
        let config = json!({"auths": {&registry.host: entry}});
        let node = registry.run_with(&config, "team/tool:1").await;
        assert_ran(&node, &format!("{status}, {login}"));
        let requests = registry.take_requests();
        let tokens: Vec<_> = requests
            .iter()
            .filter(|one| one.contains("/token"))
            .collect();
        let get = "GET /token?service=s&scope=repository%3Ateam%2Ftool%3Apull";
        assert_eq!(tokens, ["POST /token", get], "{status}");
    }
}

#[tokio::test]
async fn a_refresh_token_that_is_refused_twice_is_an_error_that_names_its_origin() {
    for (status, expected) in [
        (401, "with the credentials of DOCKER_AUTH_CONFIG"),
        (403, "with the credentials of DOCKER_AUTH_CONFIG"),
        (501, "failed with 501"),
    ] {
        let registry = start_without_oauth(status, "another:login").await;
        let config = json!({"auths": {&registry.host: {"identitytoken": "r"}}});
        let node = registry.run_with(&config, "team/tool:1").await;
        assert_error(&node, expected);
        let requests = registry.take_requests();
        let has_get = requests.iter().any(|one| one.starts_with("GET /token"));
        assert_eq!(has_get, status == 401, "{status}: {requests:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_answer_is_named() {
    for (status, answer, expected) in [
        (
            200,
            "<html>log in</html>",
            "sends no usable token: the answer is malformed: not JSON, at line 1 column 1",
        ),
        (
            200,
            "[]",
            "sends no usable token: the answer is malformed: expected a map, found a list",
        ),
        (
            200,
            r#"{"token": "", "access_token": ""}"#,
            "sends no usable token: the answer has no `token` and no `access_token`",
        ),
        (
            200,
            r#"{"token": {"value": "T"}}"#,
            "sends no usable token: the token is not a text",
        ),
        (
            200,
            r#"{"token": "T\nX-Other: 1"}"#,
            "sends a token with characters that are not allowed in an HTTP header",
        ),
        (404, "", "has no token for `repository:team/tool:pull`"),
        (401, "", "refuses token for `repository:team/tool:pull`"),
    ] {
        let registry = start(status, "application/json", answer).await;
        let node = registry.run("team/tool:1").await;
        assert_error(&node, expected);
    }
}
