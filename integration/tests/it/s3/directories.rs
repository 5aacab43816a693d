//! Keys of directories, with and without the objects that mark directories.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::s3::S3;

use crate::{message, packed};

/// An object: its content and its media type.
struct Object {
    content: Vec<u8>,
    media_type: &'static str,
}

type Objects = BTreeMap<String, Object>;

/// A bucket. `s3s-fs` cannot store objects whose keys end in a slash.
struct Bucket {
    objects: Mutex<Objects>,
}

impl Bucket {
    /// Starts a server of the bucket.
    async fn serve(self: &Arc<Self>) -> String {
        let router = Router::new().fallback(answer).with_state(Arc::clone(self));
        wasm_workflow_integration::serve(router).await
    }

    /// The content of the object `out`, which is an archive: `DIRECTORY/` and `FILE=CONTENT`,
    /// relative to the artifact.
    fn tree(&self) -> String {
        let objects = self.objects.lock().unwrap();
        let packed = flate2::read::GzDecoder::new(&objects["out"].content[..]);
        let mut archive = tar::Archive::new(packed);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let below = path.trim_start_matches("in").trim_matches('/').to_owned();
            if entry.header().entry_type().is_file() {
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                found.push(format!("{below}={content}"));
            } else if !below.is_empty() {
                found.push(format!("{below}/"));
            }
        }
        found.sort();
        found.join(" ")
    }
}

async fn answer(
    State(bucket): State<Arc<Bucket>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let mut objects = bucket.objects.lock().unwrap();
    let path = uri.path().strip_prefix("/bucket/").unwrap_or_default();
    if method == Method::PUT {
        let object = Object {
            content: body.to_vec(),
            media_type: "binary/octet-stream",
        };
        objects.insert(path.to_owned(), object);
        return [("etag", "\"e\"")].into_response();
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    if let Some(prefix) = query.get("prefix") {
        return list(&objects, prefix).into_response();
    }
    if let Some(object) = objects.get(path) {
        let headers = [("content-type", object.media_type), ("etag", "\"e\"")];
        return (headers, object.content.clone()).into_response();
    }
    let error = "<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>";
    (StatusCode::NOT_FOUND, error).into_response()
}

fn list(objects: &Objects, prefix: &str) -> String {
    let next = match prefix {
        "no-next/" => "<IsTruncated>true</IsTruncated>",
        "circle/" => {
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        }
        _ => "<IsTruncated>false</IsTruncated>",
    };
    let mut list = format!("<ListBucketResult>{next}");
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let size = object.content.len();
        write!(
            list,
            "<Contents><Key>{key}</Key><Size>{size}</Size></Contents>"
        )
        .unwrap();
    }
    list + "</ListBucketResult>"
}

/// The bucket of the tests.
fn objects() -> Objects {
    let plain = |content: &[u8]| Object {
        content: content.to_vec(),
        media_type: "binary/octet-stream",
    };
    let typed = Object {
        content: Vec::new(),
        media_type: "application/x-directory",
    };
    let objects = [
        ("marked/", plain(b"")),
        ("marked/a.txt", plain(b"one")),
        ("marked/below/", plain(b"")),
        ("marked/below/b.txt", plain(b"two")),
        ("marked/empty/", plain(b"")),
        ("unmarked/a.txt", plain(b"one")),
        ("only/", plain(b"")),
        ("nested/empty/", plain(b"")),
        ("content/", plain(b"three four")),
        ("content-and-more/", plain(b"not this")),
        ("content-and-more/a.txt", plain(b"one")),
        ("archive/", plain(&packed("text", b"five six"))),
        ("typed", typed),
        ("typed/a.txt", plain(b"one")),
        // A marker and a file of one name: the file wins.
        ("both/x", plain(b"file")),
        ("both/x/", plain(b"")),
        ("outside/../../etc/", plain(b"")),
        ("file-outside/../other/f", plain(b"one")),
        ("no-next/a.txt", plain(b"one")),
        ("circle/a.txt", plain(b"one")),
        ("empty-file", plain(b"")),
    ];
    objects
        .into_iter()
        .map(|(key, object)| (key.to_owned(), object))
        .collect()
}

fn executor(endpoint: &str) -> Executor {
    let guests = wasm_workflow_integration::guests::directory();
    let bucket = json!({"endpoint": endpoint, "bucket": "bucket", "insecure": true});
    let config =
        json!({"artifacts": {"repository": {"s3": bucket}}, "sources": {"fileRoot": guests}});
    Executor::start_with(Options {
        config: Some(config.to_string()),
        env: S3::environment(),
        ..Options::default()
    })
}

/// Template with the artifact at `/in`, which is also an output.
fn read(key: &str, archive: &Value) -> Value {
    let mut step = template("noop-work");
    step["inputs"] = json!({"artifacts": [
        {"name": "in", "path": "/in", "archive": archive, "s3": {"key": key}},
    ]});
    step["outputs"] = json!({"artifacts": [{"name": "out", "path": "/in", "s3": {"key": "out"}}]});
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_ends_in_a_slash_is_a_directory() {
    let bucket = Arc::new(Bucket {
        objects: Mutex::new(objects()),
    });
    let executor = executor(&bucket.serve().await);
    let none = json!({"none": {}});
    let detect = Value::Null;
    for (key, archive, expected) in [
        ("marked/", &none, "a.txt=one below/ below/b.txt=two empty/"),
        ("marked", &none, "a.txt=one below/ below/b.txt=two empty/"),
        (
            "marked/",
            &detect,
            "a.txt=one below/ below/b.txt=two empty/",
        ),
        ("marked/below/", &none, "b.txt=two"),
        ("unmarked/", &none, "a.txt=one"),
        ("unmarked", &none, "a.txt=one"),
        ("only/", &none, ""),
        ("only", &none, ""),
        ("nested/", &none, "empty/"),
        ("content/", &none, "=three four"),
        ("content-and-more/", &none, "a.txt=one"),
        ("archive/", &detect, "=five six"),
        ("typed", &none, "a.txt=one"),
        ("both/", &none, "x=file"),
        ("empty-file", &none, "="),
    ] {
        let node = executor.node(&read(key, archive)).await;
        assert_eq!(node["phase"], "Succeeded", "{key}: {node}");
        assert_eq!(bucket.tree(), expected, "{key}");
    }
    for (key, archive, expected) in [
        (
            "none/",
            &none,
            "there is no object `none/`, and none below it",
        ),
        ("none", &none, "there is no object `none`"),
        (
            "only/",
            &json!({"tar": {}}),
            "an archive was expected, but the key is a directory",
        ),
        ("outside/", &none, "has a segment `.` or `..`"),
        ("file-outside/", &none, "has a segment `.` or `..`"),
        (
            "no-next/",
            &none,
            "is incomplete: a page names no next page",
        ),
        (
            "circle/",
            &none,
            "is incomplete: a page names the same page again",
        ),
    ] {
        let node = executor.node(&read(key, archive)).await;
        assert_eq!(node["phase"], "Error", "{key}: {node}");
        assert!(message(&node).contains(expected), "{key}: {node}");
    }
    let mut optional = read("none/", &none);
    optional["inputs"]["artifacts"][0]["optional"] = json!(true);
    let node = executor.node(&optional).await;
    assert!(
        message(&node).contains("output artifact `out` is missing"),
        "an optional input that does not exist is left out: {node}"
    );
}

/// As in Argo, the key of an output is used as it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_output_may_have_a_key_that_ends_in_a_slash() {
    let bucket = Arc::new(Bucket {
        objects: Mutex::new(objects()),
    });
    let executor = executor(&bucket.serve().await);
    let none = json!({"none": {}});
    // A directory becomes one object for each file.
    for (from, to, expected) in [
        ("content/", "stored/", "=three four"),
        ("marked/", "copied/", "a.txt=one below/ below/b.txt=two"),
    ] {
        let mut step = read(from, &none);
        step["outputs"]["artifacts"][0]["s3"]["key"] = json!(to);
        step["outputs"]["artifacts"][0]["archive"] = none.clone();
        for step in [step, read(to, &none)] {
            let node = executor.node(&step).await;
            assert_eq!(node["phase"], "Succeeded", "{from}: {node}");
        }
        assert_eq!(bucket.tree(), expected);
    }
}
