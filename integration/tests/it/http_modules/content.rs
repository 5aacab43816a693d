//! Content codings, answers that are not modules, and the progress of a download.

use std::io::Write;
use std::time::Duration;

use axum::Router;
use futures::StreamExt;
use serde_json::json;
use wasm_workflow_integration::executor::{Executor, program};
use wasm_workflow_integration::guests::{guest, padding};

use super::{WebServer, options};
use crate::cli::{Cli, stdout};
use crate::message;

/// The executor requests no content coding. If the server uses gzip nevertheless, digests and size
/// limits apply to the decoded content.
#[tokio::test]
async fn content_codings_are_decoded_before_verification() {
    let web = WebServer::start().await;
    let module = std::fs::read(guest("noop-command")).unwrap();
    let gzipped = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    web.serve(gzipped(&module));
    web.add_header("content-encoding", "gzip");
    let executor = Executor::start_with(options(&web));
    let pinned = web.template(&format!(
        "m.wasm#sha256={}",
        sources::Digest::of(&module).hex()
    ));
    for template in [&pinned, &web.template("m.wasm")] {
        let node = executor.node(template).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
    }
    assert!(
        web.take_requests()
            .iter()
            .all(|headers| headers["accept-encoding"] == "identity")
    );
    web.serve(gzipped(&vec![0; 300 << 20]));
    let node = executor.node(&web.template("bomb.wasm")).await;
    assert!(message(&node).contains("the limit is 268435456"), "{node}");
    web.add_header("content-encoding", "br");
    let node = executor.node(&web.template("br.wasm")).await;
    assert!(
        message(&node).contains("sends the content coding `br`, which the request did not ask for"),
        "{node}"
    );
}

#[tokio::test]
async fn answers_that_are_not_modules_are_errors() {
    let web = WebServer::start().await;
    let executor = Executor::start_with(options(&web));
    for (path, expected) in [
        (
            "login.wasm",
            "not WebAssembly but an HTML page, perhaps a login page",
        ),
        ("gone.wasm", "has no file `/gone.wasm`"),
    ] {
        let node = executor.node(&web.template(path)).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{node}");
    }
    let mut template = web.template("m.wasm");
    template["plugin"]["wasm"]["module"]["http"]["moduleDigest"] =
        json!("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let node = executor.node(&template).await;
    assert!(
        message(&node).contains("the unpacked module: expected content with digest"),
        "{node}"
    );
}

/// `pull` shows the progress of a download on a terminal. The program `script` provides a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn pull_shows_progress_on_a_terminal() {
    let slow = async || {
        let module = padding(3 << 20, 7);
        let chunks: Vec<_> = module.chunks(512 << 10).map(<[u8]>::to_vec).collect();
        let chunks = futures::stream::iter(chunks).then(async |chunk| {
            tokio::time::sleep(Duration::from_millis(250)).await;
            Ok::<_, std::io::Error>(chunk)
        });
        (
            [("content-length", (3 << 20).to_string())],
            axum::body::Body::from_stream(chunks),
        )
    };
    let router = Router::new().route("/m.wasm", axum::routing::get(slow));
    let host = wasm_workflow_integration::serve(router).await;
    let cli = Cli::new();
    let pull = format!(
        "{} pull http://{host}/m.wasm --insecure-registry {host}",
        program().display()
    );
    let mut terminal = std::process::Command::new("script");
    terminal
        .args(["--quiet", "--return", "--command", &pull, "/dev/null"])
        .env("TERM", "xterm");
    terminal
        .env("WASM_WORKFLOW_CACHE_DIR", cli.at("cache"))
        .env("WASM_WORKFLOW_SCRATCH_DIR", cli.at("scratch"));
    let output = tokio::task::spawn_blocking(move || terminal.output())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for part in [
        "downloading 1.00 MiB of 3.00 MiB",
        "downloading 2.50 MiB of 3.00 MiB",
        "3145728 bytes of http://",
    ] {
        assert!(
            stdout(&output).contains(part),
            "{part}: {}",
            stdout(&output)
        );
    }
}
