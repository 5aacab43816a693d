//! Challenges in every form that RFC 9110 allows.

use axum::response::IntoResponse;

use super::{Server, assert_error, assert_ran, basic, challenge, docker_config};

/// A registry that wants the token `T`, or the password of `ada` if `or_basic` is set. `HOST` in
/// the challenges is its own address.
async fn start(challenges: &[&str], or_basic: bool) -> Server {
    let challenges: Vec<String> = challenges.iter().map(|&one| one.to_owned()).collect();
    Server::start(move |asked| {
        if asked.path() == "/token" {
            return Some(r#"{"token": "T"}"#.into_response());
        }
        let sent = asked.authorization();
        if sent == "Bearer T" || (or_basic && sent == basic("ada:s3cret")) {
            return None;
        }
        let host = &asked.host;
        let values: Vec<String> = challenges
            .iter()
            .map(|one| one.replace("HOST", host))
            .collect();
        Some(challenge(&values))
    })
    .await
}

#[tokio::test]
async fn a_bearer_challenge_is_found_among_others() {
    for challenges in [
        &[r#"Basic realm="r", Bearer realm="http://HOST/token",service="s""#][..],
        &[r#"Bearer realm="http://HOST/token",service="s", Basic realm="r""#],
        &[r#"Basic realm="r""#, r#"Bearer realm="http://HOST/token""#],
        &[r#"Negotiate YTY0==, NTLM, BEARER Service = "a, b" ,,REALM = "http://HOST/token""#],
        &[
            r#"Digest realm="x\", Bearer realm=\"y", nonce="a,b", Bearer realm="http:\/\/HOST/token""#,
        ],
        &["Bearer realm=http://HOST/token,service=s"],
        &[r#"Bearer realm="ftp://HOST/", Bearer realm="http://HOST/token""#],
        &[r#"Bearer service="s", realm="ignored", realm="http://HOST/token""#],
    ] {
        let registry = start(challenges, false).await;
        assert_ran(&registry.run("team/tool:1").await, challenges[0]);
    }
}

#[tokio::test]
async fn basic_is_used_where_bearer_cannot_be() {
    for challenges in [
        &[r#"Basic realm="r""#][..],
        &[r#"Unknown a=b, basic REALM="Zo\u00eb""#],
        &["Basic"],
        &[r#"Bearer service="s", Basic realm="r""#],
        &[r#"Bearer realm="https://other.example/token", Basic realm="r""#],
        &[r#"Bearer realm="http://HOST/missing", Basic realm="r""#],
    ] {
        let registry = start(challenges, true).await;
        let config = docker_config(&registry.host, "ada:s3cret");
        let node = registry.run_with(&config, "team/tool:1").await;
        assert_ran(&node, challenges[0]);
        let requests = registry.take_requests();
        let tokens = requests.iter().filter(|one| one.contains("/missing"));
        assert!(tokens.count() <= 1, "{requests:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_challenge_is_named() {
    for (challenge, expected) in [
        (
            "Negotiate, Digest realm=\"x\"",
            "wants authentication by `negotiate`, `digest`; only `Bearer` and `Basic` are supported",
        ),
        (
            "Bearer service=\"s\"",
            "its challenge names no token server (`realm`)",
        ),
        (
            "Bearer realm=\"/token\"",
            "the token server `/token`, which is not a URL",
        ),
        ("Bearer realm=\"never closed", "names no token server"),
    ] {
        let registry = start(&[challenge], false).await;
        assert_error(&registry.run("team/tool:1").await, expected);
    }
    let registry = start(&[], false).await;
    assert_error(
        &registry.run("team/tool:1").await,
        "refuses tag `1` of `team/tool` (401 Unauthorized)",
    );
}

/// The registry accepts no password. `HEAD` and `GET` are sent without and with the password, and
/// not in a loop.
#[tokio::test]
async fn a_refused_password_is_not_sent_in_a_loop() {
    let registry = Server::start(|_| Some(challenge(&[r#"Basic realm="r""#.to_owned()]))).await;
    let config = docker_config(&registry.host, "ada:wrong");
    let node = registry.run_with(&config, "team/tool:1").await;
    assert_error(&node, "with the credentials of DOCKER_AUTH_CONFIG");
    let requests = registry.take_requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
}
