//! Requests for features that the S3 servers of the tests do not have: encryption with managed
//! keys, roles, and object locking. The tests check only the requests.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, Options, template};
use wasm_workflow_integration::s3::S3;

use crate::message;

#[derive(Clone, Debug)]
struct RecordedRequest {
    /// Method and URI.
    target: String,
    headers: HeaderMap,
    body: String,
}

impl RecordedRequest {
    /// Value of a header; empty if the request has no such header.
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// An endpoint that records its requests, and answers each of them with success.
#[derive(Default)]
struct Recorder {
    requests: Mutex<Vec<RecordedRequest>>,
}

impl Recorder {
    /// Starts an endpoint on loopback. Returns its address and its state.
    async fn start() -> (String, Arc<Self>) {
        let recorder: Arc<Self> = Arc::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&recorder));
        (wasm_workflow_integration::serve(router).await, recorder)
    }

    /// The first request whose method and URI start with `start`.
    fn find(&self, start: &str) -> RecordedRequest {
        let requests = self.requests.lock().unwrap();
        let found = requests
            .iter()
            .find(|request| request.target.starts_with(start));
        found
            .unwrap_or_else(|| panic!("no request starts with `{start}`: {requests:?}"))
            .clone()
    }
}

async fn answer(State(recorder): State<Arc<Recorder>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    recorder.requests.lock().unwrap().push(RecordedRequest {
        target: format!("{} {}", parts.method, parts.uri),
        headers: parts.headers,
        body: text.clone(),
    });
    let Some(action) = ["AssumeRoleWithWebIdentity", "AssumeRole"]
        .into_iter()
        .find(|action| text.contains(&format!("Action={action}&")))
    else {
        return ([("etag", "\"e\"")], "").into_response();
    };
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials><AccessKeyId>ASIAOF{action}</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>token-of-{action}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></{action}Result></{action}Response>"
    )
    .into_response()
}

/// Runs a step with one output. The bucket has these fields. Returns the node and the recorded
/// requests.
async fn store(fields: &Value, env: &[(&str, &str)]) -> (Value, Arc<Recorder>) {
    let (endpoint, recorder) = Recorder::start().await;
    let mut bucket = json!({"endpoint": endpoint, "bucket": "artifacts", "insecure": true});
    bucket
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let guests = wasm_workflow_integration::guests::directory();
    let config =
        json!({"artifacts": {"repository": {"s3": bucket}}, "sources": {"fileRoot": guests}});
    let sts = format!("http://{endpoint}");
    let env = env.iter().copied().chain([
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    let env = env
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let executor = Executor::start_with(Options {
        config: Some(config.to_string()),
        env,
        ..Options::default()
    });
    let mut step = template("word-count");
    step["inputs"] =
        json!({"artifacts": [{"name": "text", "path": "/in/text", "raw": {"data": "a b"}}]});
    step["outputs"] =
        json!({"artifacts": [{"name": "copy", "path": "/out/copy", "archive": {"none": {}}}]});
    step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
    (executor.node(&step).await, recorder)
}

/// Like [`store`], with keys in the environment. The step must succeed.
async fn stored(fields: Value) -> Arc<Recorder> {
    let keys = S3::environment();
    let env: Vec<(&str, &str)> = keys
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (node, recorder) = store(&fields, &env).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    recorder
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_signed_hashed_and_encrypted_as_configured() {
    let plain = stored(json!({"region": "eu-west-3"}))
        .await
        .find("PUT /artifacts/wf/");
    assert!(
        plain
            .header("authorization")
            .contains("/eu-west-3/s3/aws4_request"),
        "{plain:?}"
    );
    assert_eq!(plain.header("content-md5"), "DMnNTdJsUTe2daDYGcuasA==");
    let signed = plain
        .header("authorization")
        .split("SignedHeaders=")
        .nth(1)
        .unwrap();
    assert!(
        signed
            .split(',')
            .next()
            .unwrap()
            .split(';')
            .any(|name| name == "content-md5"),
        "{plain:?}"
    );
    assert_eq!(plain.header("x-amz-server-side-encryption"), "");
    let ours = stored(json!({"encryptionOptions": {"enableEncryption": true}}))
        .await
        .find("PUT /artifacts/wf/");
    assert_eq!(ours.header("x-amz-server-side-encryption"), "AES256");
    let kms = json!({"enableEncryption": true, "kmsKeyId": "key-1", "kmsEncryptionContext": "{\"a\": \"b\"}"});
    let managed = stored(json!({"encryptionOptions": kms}))
        .await
        .find("PUT /artifacts/wf/");
    assert_eq!(managed.header("x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(
        managed.header("x-amz-server-side-encryption-aws-kms-key-id"),
        "key-1"
    );
    assert_eq!(
        managed.header("x-amz-server-side-encryption-context"),
        "eyJhIjoiYiJ9"
    );
    let off = stored(json!({"encryptionOptions": {"kmsKeyId": "key-1"}}))
        .await
        .find("PUT /artifacts/wf/");
    assert_eq!(
        off.header("x-amz-server-side-encryption"),
        "",
        "without `enableEncryption` the other options are ignored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_buckets_are_created_with_locks_region_and_encryption() {
    let recorder = stored(json!({
        "region": "eu-west-3",
        "createBucketIfNotPresent": {"objectLocking": true},
        "encryptionOptions": {"enableEncryption": true},
    }))
    .await;
    let made = recorder.find("PUT /artifacts");
    assert_eq!(made.header("x-amz-bucket-object-lock-enabled"), "true");
    assert!(
        made.body
            .contains("<LocationConstraint>eu-west-3</LocationConstraint>"),
        "{made:?}"
    );
    let encrypted = recorder.find("PUT /artifacts/?encryption");
    assert!(
        encrypted
            .body
            .contains("<SSEAlgorithm>AES256</SSEAlgorithm>"),
        "{encrypted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_web_identities_supply_credentials() {
    let role = "arn:aws:iam::1:role/artifacts";
    let recorder = stored(json!({"roleARN": role})).await;
    let assumed = recorder.find("POST /");
    assert!(
        assumed.body.contains("Action=AssumeRole&")
            && assumed.body.contains("RoleArn=arn%3Aaws%3Aiam"),
        "{assumed:?}"
    );
    assert!(
        assumed
            .header("authorization")
            .contains("Credential=AKIDTEST/"),
        "{assumed:?}"
    );
    let put = recorder.find("PUT /artifacts/wf/");
    assert!(
        put.header("authorization")
            .contains("Credential=ASIAOFAssumeRole/"),
        "{put:?}"
    );
    assert_eq!(put.header("x-amz-security-token"), "token-of-AssumeRole");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, "web-token").unwrap();
    let identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", role),
    ];
    let (node, recorder) = store(&json!({"useSDKCreds": true}), &identity).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    assert!(
        recorder
            .find("POST /")
            .body
            .contains("WebIdentityToken=web-token")
    );
    assert_eq!(
        recorder
            .find("PUT /artifacts/wf/")
            .header("x-amz-security-token"),
        "token-of-AssumeRoleWithWebIdentity"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_bucket_settings_are_errors() {
    for (fields, expected) in [
        (
            json!({}),
            "no credentials are available for the bucket: name `accessKeySecret`",
        ),
        (
            json!({"accessKeySecret": {"name": "s", "key": "k"}}),
            "Secret `s` cannot be read: there is no access to the Kubernetes API",
        ),
        (
            json!({"encryptionOptions": {"enableEncryption": true, "kmsKeyId": "k", "kmsEncryptionContext": "a"}}),
            "is not a JSON object",
        ),
    ] {
        let mut env = vec![];
        if fields.get("encryptionOptions").is_some() {
            env = vec![("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
        }
        let (node, _) = store(&fields, &env).await;
        assert_eq!(node["phase"], "Error", "{node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
    }
}
