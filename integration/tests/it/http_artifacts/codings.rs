//! Content codings of HTTP artifacts.

use std::io::{Read, Write};

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::template;

use super::{RecordedRequest, ScriptedServer, executor};
use crate::{message, packed};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(content).unwrap();
    zlib.finish().unwrap()
}

fn raw_deflate(content: &[u8]) -> Vec<u8> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
    deflate.write_all(content).unwrap();
    deflate.finish().unwrap()
}

/// A frame with one block that is not compressed (RFC 8878, 3.1.1).
fn zstd(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    let last_raw_block = length << 3 | 1;
    [
        b"\x28\xb5\x2f\xfd\xa0",
        &length.to_le_bytes()[..],
        &last_raw_block.to_le_bytes()[..3],
        content,
    ]
    .concat()
}

/// A tar archive without compression.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let packed = packed("text", content);
    let mut gzip = GzDecoder::new(&packed[..]);
    gzip.read_to_end(&mut tar).unwrap();
    tar
}

fn coded(codings: &[&str], body: Vec<u8>) -> Response {
    let mut response = Response::builder();
    for coding in codings {
        response = response.header("content-encoding", *coding);
    }
    response.body(Body::from(body)).unwrap()
}

fn answer(request: &RecordedRequest) -> Response {
    let text = b"one two three";
    match request.path.as_str() {
        "/copy" => StatusCode::CREATED.into_response(),
        "/gzip" => coded(&["gzip"], gzip(text)),
        "/x-gzip" => coded(&["X-GZIP"], gzip(text)),
        "/zlib" => coded(&["deflate"], zlib(text)),
        "/raw" => coded(&["deflate"], raw_deflate(text)),
        "/identity" => coded(&["identity"], text.to_vec()),
        "/twice" => coded(&["gzip, gzip"], gzip(&gzip(text))),
        "/headers" => coded(&["deflate", "gzip"], gzip(&zlib(text))),
        "/empty" => coded(&["gzip"], Vec::new()),
        // An archive, and its name as a coding, as Apache sends it.
        "/tgz" => coded(&["gzip"], gzip(&packed("text", text))),
        // The gzip of the archive is the coding, as nginx and Apache can send a `.tgz` file.
        "/tar/gzip" => coded(&["gzip"], packed("text", text)),
        "/tar/GZIP" => coded(&["GZIP"], packed("text", text)),
        "/tar/x-gzip" => coded(&["x-gzip"], packed("text", text)),
        "/tar/listed" => coded(&["identity, gzip"], packed("text", text)),
        "/tar/twice" => coded(&["gzip, gzip"], gzip(&packed("text", text))),
        "/tar/zlib" => coded(&["deflate"], zlib(&tar(text))),
        "/tar/raw" => coded(&["deflate"], raw_deflate(&tar(text))),
        "/tar/zstd" => coded(&["zstd"], zstd(&tar(text))),
        "/tar/identity" => coded(&["identity"], tar(text)),
        "/tar/plain" => coded(&[], tar(text)),
        "/zstd" => coded(&["zstd"], zstd(text)),
        "/br" => coded(&["br"], text.to_vec()),
        "/mixed" => coded(&["gzip, br"], text.to_vec()),
        "/damaged" => coded(&["gzip"], b"this is not gzip".to_vec()),
        "/cut" => {
            let whole = gzip(
                &(0..100_000u32)
                    .flat_map(u32::to_le_bytes)
                    .collect::<Vec<u8>>(),
            );
            coded(&["gzip"], whole[..whole.len() / 2].to_vec())
        }
        // 64 MiB in 64 KiB.
        "/bomb" => coded(&["gzip"], gzip(&vec![b'a'; 64 << 20])),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Template that counts the words of the artifact. The result is the number.
fn count(http: Value) -> Value {
    let mut step = template("word-count");
    step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "http": http}]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/tmp/copy"]);
    step["plugin"]["wasm"]["limits"] = json!({"disk": "8Mi"});
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn content_codings_of_artifacts_are_undone() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    for (path, words) in [
        ("gzip", "3"),
        ("x-gzip", "3"),
        ("zlib", "3"),
        ("raw", "3"),
        ("identity", "3"),
        ("twice", "3"),
        ("headers", "3"),
        ("empty", "0"),
        ("tgz", "3"),
        ("zstd", "3"),
    ] {
        let node = executor.node(&count(json!({"url": web.url(path)}))).await;
        assert_eq!(node["outputs"]["result"], words, "{path}: {node}");
    }
    for request in web.take_requests() {
        assert_eq!(request.header("accept-encoding"), "identity");
    }
}

/// A coding can be the compression of the archive. Argo unpacks no archive without compression, and
/// Go's client undoes only the coding `gzip` for Argo.
#[tokio::test(flavor = "multi_thread")]
async fn a_tar_archive_whose_gzip_is_the_coding_is_unpacked_where_argo_unpacks_it() {
    let text = b"one two three";
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    let left_out = json!(null);
    let tar_is_named = json!({"tar": {}});
    let none = json!({"none": {}});
    for (path, archive, headers, expected) in [
        ("gzip", &left_out, json!([]), tar(text)),
        ("GZIP", &left_out, json!([]), tar(text)),
        ("x-gzip", &left_out, json!([]), text.to_vec()),
        ("listed", &left_out, json!([]), text.to_vec()),
        ("twice", &left_out, json!([]), tar(text)),
        ("zlib", &left_out, json!([]), tar(text)),
        ("raw", &left_out, json!([]), tar(text)),
        ("zstd", &left_out, json!([]), tar(text)),
        ("identity", &left_out, json!([]), tar(text)),
        ("plain", &left_out, json!([]), tar(text)),
        ("gzip", &tar_is_named, json!([]), text.to_vec()),
        ("x-gzip", &tar_is_named, json!([]), text.to_vec()),
        ("zstd", &tar_is_named, json!([]), text.to_vec()),
        ("plain", &tar_is_named, json!([]), text.to_vec()),
        ("gzip", &none, json!([]), tar(text)),
        ("x-gzip", &none, json!([]), tar(text)),
        // The coding is not undone.
        (
            "gzip",
            &left_out,
            json!([{"name": "Accept-Encoding", "value": "gzip"}]),
            text.to_vec(),
        ),
    ] {
        let url = web.url(&format!("tar/{path}"));
        let mut step = count(json!({"url": url, "headers": headers}));
        step["inputs"]["artifacts"][0]["archive"] = archive.clone();
        step["outputs"] = json!({"artifacts": [{
            "name": "copy", "path": "/tmp/copy", "archive": {"none": {}}, "http": {"url": web.url("copy")},
        }]});
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Succeeded", "{path}, {archive}: {node}");
        let put = web.take_requests().remove(1);
        assert!(
            put.body == expected,
            "{path}, {archive}: {} bytes",
            put.body.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_cannot_be_decoded_is_an_error() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    for (path, expected, requests) in [
        (
            "br",
            "sends the content coding `br`, which the request did not ask for",
            1,
        ),
        ("mixed", "sends the content coding `br`", 1),
        ("damaged", "sends content whose coding `gzip` is damaged", 1),
        ("cut", "whose coding `gzip` is damaged, after 3 attempts", 3),
        ("bomb", "is larger than the 8388608 bytes", 1),
    ] {
        let node = executor.node(&count(json!({"url": web.url(path)}))).await;
        assert_eq!(node["phase"], "Error", "{path}: {node}");
        assert!(message(&node).contains(expected), "{path}: {node}");
        assert_eq!(web.take_requests().len(), requests, "{path}: {node}");
    }
}

/// Go's client undoes gzip only if the author does not ask for a coding or for a part.
#[tokio::test(flavor = "multi_thread")]
async fn the_authors_own_accept_encoding_leaves_the_content_coded() {
    let web = ScriptedServer::start(answer).await;
    let executor = executor(&[&web.host]);
    for name in ["Accept-Encoding", "Range"] {
        let value = if name == "Range" { "bytes=0-" } else { "gzip" };
        let headers = json!([{"name": name, "value": value}]);
        let mut step = count(json!({"url": web.url("gzip"), "headers": headers}));
        step["outputs"] = json!({"artifacts": [{
            "name": "copy", "path": "/tmp/copy", "archive": {"none": {}}, "http": {"url": web.url("copy")},
        }]});
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Succeeded", "{name}: {node}");
        let [get, put] = &web.take_requests()[..] else {
            panic!("{node}");
        };
        assert_eq!(get.header(&name.to_ascii_lowercase()), value);
        assert_eq!(put.body, gzip(b"one two three"), "{name}");
    }
}
