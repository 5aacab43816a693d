//! Mirrors with a path, such as the proxy cache projects of Harbor.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::{Server, assert_ran, basic, challenge};

/// Runs `docker.io/library/tool:1` with one mirror.
async fn run(mirror: &str, host: &str, docker_config: &Value) -> Value {
    let config =
        json!({"sources": {"insecure": [host], "mirrors": {"docker.io": ["127.0.0.1:1", mirror]}}});
    super::run(&config, docker_config, json!({"oci": "tool:1"})).await
}

#[tokio::test]
async fn the_path_of_a_mirror_comes_before_the_repository() {
    for (path, repository) in [
        ("", "library/tool"),
        ("/proxy-docker", "proxy-docker/library/tool"),
        ("/proxy/hub_1", "proxy/hub_1/library/tool"),
    ] {
        let mirror = Server::start(move |asked| {
            let is_known = asked.path().starts_with(&format!("/v2/{repository}/"));
            (!is_known).then(|| StatusCode::NOT_FOUND.into_response())
        })
        .await;
        let at = format!("{}{path}", mirror.host);
        assert_ran(&run(&at, &mirror.host, &json!({})).await, path);
    }
}

/// The token is for the repository on the mirror, and the credential with the longest path is used.
#[tokio::test]
async fn credentials_and_scopes_have_the_path_of_the_mirror() {
    for named in [true, false] {
        let mirror = Server::start(move |asked| {
            let scope = "repository:proxy-docker/library/tool:pull";
            if asked.path() == "/token" {
                let is_right = asked.authorization() == basic("robot:right")
                    && asked
                        .query()
                        .contains("proxy-docker%2Flibrary%2Ftool%3Apull");
                let answer = match is_right {
                    true => r#"{"token": "T"}"#.into_response(),
                    false => StatusCode::UNAUTHORIZED.into_response(),
                };
                return Some(answer);
            }
            let scope = match named {
                true => format!(",scope=\"{scope}\""),
                false => String::new(),
            };
            let realm = format!("Bearer realm=\"http://{}/token\"{scope}", asked.host);
            (asked.authorization() != "Bearer T").then(|| challenge(&[realm]))
        })
        .await;
        let host = mirror.host.as_str();
        let entry = |pair: &str| {
            let (username, password) = pair.split_once(':').unwrap();
            json!({"username": username, "password": password})
        };
        let config = json!({"auths": {
            host: entry("robot:wrong"),
            format!("{host}/proxy-docker"): entry("robot:right"),
            format!("{host}/proxy-quay"): entry("robot:other"),
        }});
        let at = format!("{host}/proxy-docker");
        assert_ran(&run(&at, host, &config).await, "with credentials");
        let requests = mirror.take_requests();
        let tokens = requests.iter().filter(|one| one.contains("/token"));
        assert_eq!(tokens.count(), 1, "{requests:?}");
    }
}
