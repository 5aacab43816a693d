//! A store over TLS with its own certificate authority, customer keys, and the bucket in the host
//! name.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, template};
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::other_programs::write_certificates;

use crate::message;

/// Program in Python: an object store over TLS. It writes the requests and some of their headers to
/// the file `requests`.
const SERVER: &str = r#"
import http.server, json, ssl
objects = {}
class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def record(self):
        names = ["host", "x-amz-content-sha256", "x-amz-server-side-encryption-customer-algorithm",
                 "x-amz-server-side-encryption-customer-key", "x-amz-server-side-encryption-customer-key-md5"]
        with open("requests", "a") as log:
            log.write(json.dumps([self.command, self.path] + [self.headers.get(name, "") for name in names]) + "\n")
    def do_PUT(self):
        self.record()
        objects[self.path.split("?")[0]] = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("etag", '"e"'); self.send_header("content-length", "0"); self.end_headers()
    def do_GET(self):
        self.record()
        body = objects.get(self.path.split("?")[0], b"one two")
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The recorded requests with a method. A request is its method, its path, and the headers that the
/// server records.
fn requests(directory: &Path, method: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(directory.join("requests")).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
    lines.filter(|request| request[0] == method).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_over_tls_use_ca_and_customer_keys_from_secrets() {
    let home = tempfile::tempdir().unwrap();
    let kubernetes = Kubernetes::start().await;
    write_certificates(home.path(), "IP:127.0.0.1,DNS:localhost,DNS:*.localhost");
    let mut child = Command::new("python3")
        .args(["-c", SERVER])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let _server = Server(child);
    let endpoint = format!("127.0.0.1:{}", port.trim());
    let encode = |text: &str| STANDARD.encode(text);
    let authority = std::fs::read_to_string(home.path().join("ca.pem")).unwrap();
    kubernetes.put(
        "secrets/s3",
        json!({"data": {"access": encode("AK"), "secret": encode("SK\n"), "ca": encode(&authority), "sse": encode("secret"), "none": encode("x")}}),
    );
    let guests = wasm_workflow_integration::guests::directory();
    // `insecure` allows these hosts on this machine. The bucket is not `insecure`, so the executor
    // uses TLS.
    let insecure = [
        endpoint.clone(),
        "localhost".to_owned(),
        format!("bucket.localhost:{}", port.trim()),
    ];
    let config = json!({"sources": {"fileRoot": guests, "insecure": insecure}});
    let executor = Executor::with_config(&config, kubernetes.flags(home.path()));
    let select = |key: &str| json!({"name": "s3", "key": key});
    let location = |key: &str, more: &Value| {
        let mut s3 = json!({"endpoint": endpoint, "bucket": "bucket", "key": key, "accessKeySecret": select("access"), "secretKeySecret": select("secret")});
        s3.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        s3
    };
    let step = |more: &Value| {
        let mut step = template("word-count");
        step["inputs"] = json!({"artifacts": [{"name": "text", "path": "/in/text", "s3": location("in/text", more)}]});
        step["outputs"] = json!({"artifacts": [{"name": "copy", "path": "/out/copy", "archive": {"none": {}}, "s3": location("dir/key", more)}]});
        step["plugin"]["wasm"]["args"] = json!(["/in/text", "/out/copy"]);
        step
    };
    let trusted = json!({"caSecret": select("ca")});
    let node = executor.node(&step(&trusted)).await;
    assert_eq!(node["outputs"]["result"], "2", "{node}");
    assert_eq!(
        node["outputs"]["artifacts"][0]["s3"]["caSecret"],
        select("ca"),
        "the consumer of the output needs the CA too: {node}"
    );
    let put = requests(home.path(), "PUT").remove(0);
    assert_eq!(
        (put[1].split('?').next().unwrap(), put[3].as_str()),
        ("/bucket/dir/key", "UNSIGNED-PAYLOAD"),
        "{put:?}"
    );
    let customer = json!({"caSecret": select("ca"), "encryptionOptions": {"enableEncryption": true, "serverSideCustomerKeySecret": select("sse")}});
    let node = executor.node(&step(&customer)).await;
    assert_eq!(node["phase"], "Succeeded", "{node}");
    // The key that Argo's own client derives from `secret`, `bucket` and `dir/key`.
    let put = requests(home.path(), "PUT").remove(1);
    assert_eq!(
        put[4..],
        [
            "AES256",
            "+RylT+8624A/me94mxe/Wm+2XNWkxkMcPQ2/rPQJNgI=",
            "tUUDyeAdTIOTn8Ci87qn2w=="
        ],
        "{put:?}"
    );
    let get = requests(home.path(), "GET").remove(1);
    assert!(
        get[4] == "AES256" && get[5] != put[5],
        "each object has a different key: {get:?}"
    );
    let hosted = json!({"caSecret": select("ca"), "addressingStyle": "virtual-hosted", "endpoint": format!("localhost:{}", port.trim())});
    if std::net::ToSocketAddrs::to_socket_addrs(&("bucket.localhost", 1)).is_ok() {
        let node = executor.node(&step(&hosted)).await;
        assert_eq!(node["phase"], "Succeeded", "{node}");
        let put = requests(home.path(), "PUT").remove(2);
        assert_eq!(
            (
                put[1].split('?').next().unwrap(),
                put[2].split(':').next().unwrap()
            ),
            ("/dir/key", "bucket.localhost"),
            "{put:?}"
        );
    }
    for (more, expected) in [
        (
            json!({}),
            "is not trusted: no trusted authority issued the certificate",
        ),
        (
            json!({"caSecret": select("none")}),
            "`caSecret` contains no certificates in PEM",
        ),
        (
            json!({"caSecret": select("gone")}),
            "Secret `s3` of namespace `argo` has no key `gone`",
        ),
        (
            json!({"caSecret": select("ca"), "insecure": true, "encryptionOptions": customer["encryptionOptions"]}),
            "needs TLS, because requests carry the keys",
        ),
        (
            json!({"caSecret": select("ca"), "sessionTokenSecret": {"name": "other", "key": "k"}}),
            "there is no Secret `other`",
        ),
    ] {
        let node = executor.node(&step(&more)).await;
        assert_eq!(node["phase"], "Error", "{more}: {node}");
        assert!(message(&node).contains(expected), "{expected}: {node}");
    }
    assert!(
        !executor.log().contains("RylT"),
        "the log contains no customer key"
    );
}
