//! Registries that refuse `HEAD`, and not `GET`.

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Server, assert_error, assert_ran};
use crate::cli::{Cli, stderr};

/// How a registry answers `HEAD`.
#[derive(Clone, Copy, Debug)]
enum Head {
    Status(u16),
    /// The connection is closed without an answer.
    Closed,
    /// 200 without a digest.
    NoDigest,
    /// 200 with a length that is not that of the manifest, and with a body that is not allowed.
    WrongLength,
}

impl Head {
    fn answer(self) -> Response {
        match self {
            Self::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
            // Ends the connection, and prints nothing.
            Self::Closed => std::panic::resume_unwind(Box::new("the connection is closed")),
            Self::NoDigest => StatusCode::OK.into_response(),
            Self::WrongLength => ([("content-length", "7")], "1234567").into_response(),
        }
    }
}

#[tokio::test]
async fn a_refused_head_falls_back_to_get() {
    let refused = [400, 401, 403, 404, 405, 406, 410, 500, 501, 503].map(Head::Status);
    let others = [Head::Closed, Head::NoDigest, Head::WrongLength];
    for head in refused.into_iter().chain(others) {
        let registry = Server::start(move |asked| {
            let is_head = asked.method == Method::HEAD;
            is_head.then(|| head.answer())
        })
        .await;
        assert_ran(&registry.run("team/tool:1").await, &format!("{head:?}"));
        let requests = registry.take_requests();
        assert!(
            requests.contains(&"GET /v2/team/tool/manifests/1".to_owned()),
            "{head:?}: {requests:?}"
        );
    }
}

#[tokio::test]
async fn a_limit_of_requests_does_not_fall_back_to_get() {
    let registry = Server::start(|asked| {
        let limited = (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "3600")]);
        (asked.method == Method::HEAD).then(|| limited.into_response())
    })
    .await;
    assert_error(&registry.run("team/tool:1").await, "limits requests (429");
    let requests = registry.take_requests();
    assert_eq!(requests, ["HEAD /v2/team/tool/manifests/1"]);
}

#[tokio::test]
async fn a_tag_that_does_not_exist_is_an_error_of_get() {
    let registry = Server::start(|asked| {
        let is_tag = asked.path().ends_with("/manifests/9");
        is_tag.then(|| StatusCode::NOT_FOUND.into_response())
    })
    .await;
    assert_error(
        &registry.run("team/tool:9").await,
        "has no tag `9` of `team/tool`",
    );
}

/// `push` asks with `HEAD` whether the registry has a blob.
#[tokio::test]
async fn a_push_uploads_what_head_does_not_show() {
    for head in [
        Head::Status(403),
        Head::Status(405),
        Head::Status(501),
        Head::Closed,
    ] {
        let registry = Server::start(move |asked| match asked.method.as_str() {
            "HEAD" => Some(head.answer()),
            "POST" => Some((StatusCode::ACCEPTED, [("location", "/v2/upload")]).into_response()),
            "PUT" => Some(StatusCode::CREATED.into_response()),
            _ => None,
        })
        .await;
        let pushed = registry.push(Cli::new()).await;
        assert_eq!(
            pushed.status.code(),
            Some(0),
            "{head:?}: {}",
            stderr(&pushed)
        );
        let requests = registry.take_requests();
        let uploads = requests
            .iter()
            .filter(|one| one.starts_with("PUT /v2/upload"));
        assert_eq!(uploads.count(), 2, "{head:?}: {requests:?}");
    }
}
