//! Certificates of servers: what a listed certificate makes trusted, and what the errors say.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::executor::{Executor, program, template};
use wasm_workflow_integration::guests::{directory, guest};
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::other_programs::succeed;

use crate::message;

/// Makes the certificates. A name stands for `NAME.pem` and `NAME.key`.
const CERTIFICATES: &str = r#"
set -eu
cat >plain.cnf <<END
[ca]
default_ca = d
[d]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
unique_subject = no
policy = p
x509_extensions = e
[p]
commonName = supplied
[e]
basicConstraints = critical,CA:TRUE
subjectAltName = IP:127.0.0.1
[req]
distinguished_name = n
[n]
END
: >index
echo 01 >serial
key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
for name in authority=CA:TRUE end-entity=CA:FALSE; do
  openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=IP:127.0.0.1 \
    -addext "basicConstraints=critical,${name#*=}" -config plain.cnf -keyout "${name%=*}.key" -out "${name%=*}.pem"
done
# The extended key usage of an authority, and of the certificate of a server.
for name in any-use=CA:TRUE,anyExtendedKeyUsage server-use=CA:TRUE,clientAuth,serverAuth client-use=CA:TRUE,clientAuth \
  any-leaf=CA:FALSE,anyExtendedKeyUsage client-leaf=CA:FALSE,clientAuth; do
  value=${name#*=}
  openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=IP:127.0.0.1 -addext "basicConstraints=critical,${value%%,*}" \
    -addext "extendedKeyUsage=${value#*,}" -config plain.cnf -keyout "${name%=*}.key" -out "${name%=*}.pem"
done
# What this command makes without further options.
openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=IP:127.0.0.1 -keyout default.key -out default.pem
openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=IP:127.0.0.1 -config plain.cnf -keyout no-constraints.key -out no-constraints.pem
openssl req -x509 $key -days 2 -subj /CN=machine -addext subjectAltName=IP:127.0.0.1 -keyout machine.key -out machine.pem
openssl req -x509 $key -days 2 -subj /CN=127.0.0.1 -keyout no-names.key -out no-names.pem
openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=DNS:other.example,IP:10.9.8.7 -keyout other-name.key -out other-name.pem
# An authority that is not listed, and a certificate that it issued and that is listed.
openssl req -x509 $key -days 2 -subj /CN=unlisted -keyout unlisted.key -out unlisted.pem
echo subjectAltName=IP:127.0.0.1 >names
openssl req -new $key -subj /CN=issued -keyout issued.key -out issued.csr
openssl x509 -req -in issued.csr -CA unlisted.pem -CAkey unlisted.key -CAcreateserial -days 2 -extfile names -out issued.pem
openssl req -new $key -subj /CN=sibling -keyout sibling.key -out sibling.csr
openssl x509 -req -in sibling.csr -CA unlisted.pem -CAkey unlisted.key -CAcreateserial -days 2 -extfile names -out sibling.pem
# The subject of `default`, and another key.
openssl req -x509 $key -days 2 -subj /CN=r -addext subjectAltName=IP:127.0.0.1 -keyout impostor.key -out impostor.pem
# X.509 version 1: as an authority, and as the certificate of a server.
openssl req -new $key -subj /CN=127.0.0.1 -keyout version-1.key -out version-1.csr
openssl x509 -req -in version-1.csr -signkey version-1.key -days 2 -out version-1.pem
openssl req -new $key -subj /CN=below -keyout below-version-1.key -out below.csr
openssl x509 -req -in below.csr -CA version-1.pem -CAkey version-1.key -CAcreateserial -days 2 -extfile names -out below-version-1.pem
openssl req -new $key -config plain.cnf -subj /CN=r -keyout expired.key -out expired.csr
openssl ca -batch -selfsign -config plain.cnf -keyfile expired.key -in expired.csr -notext \
  -startdate 20200101000000Z -enddate 20210101000000Z -out expired.pem
openssl ca -batch -selfsign -config plain.cnf -keyfile expired.key -in expired.csr -notext \
  -startdate 20900101000000Z -enddate 20910101000000Z -out early.pem
cp expired.key early.key
"#;

/// Program in Python: one web server for each name in the arguments. It answers each `GET`, also
/// those of S3, and has a pull secret as the Kubernetes API has it.
const SERVERS: &str = r#"
import http.server, ssl, sys, threading
module = open("module.wasm", "rb").read()
secret = b'{"kind":"Secret","type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"e30="}}'
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = module if self.path.endswith(".wasm") else secret if self.path.startswith("/api/") else b"one two"
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_):
        pass
class Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass
for name in sys.argv[1:]:
    server = Quiet(("127.0.0.1", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(name + ".pem", name + ".key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
    print(server.server_port, flush=True)
"#;

/// The names of all certificates with a server.
const NAMES: &[&str] = &[
    "default",
    "authority",
    "end-entity",
    "no-constraints",
    "no-names",
    "other-name",
    "issued",
    "sibling",
    "impostor",
    "version-1",
    "below-version-1",
    "expired",
    "early",
    "any-use",
    "server-use",
    "client-use",
    "any-leaf",
    "client-leaf",
    "machine",
];

/// The names of the certificates that the operator does not list.
const NOT_LISTED: [&str; 4] = ["sibling", "impostor", "below-version-1", "machine"];

struct Servers {
    child: Child,
    home: tempfile::TempDir,
    /// Ports, in the order of [`NAMES`].
    ports: Vec<String>,
}

impl Servers {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::copy(guest("noop-command"), home.path().join("module.wasm")).unwrap();
        let mut bash = Command::new("bash");
        succeed(bash.args(["-c", CERTIFICATES]).current_dir(home.path()));
        let mut child = Command::new("python3")
            .args(["-c", SERVERS])
            .args(NAMES)
            .current_dir(home.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ports = lines.take(NAMES.len()).map(Result::unwrap).collect();
        Self { child, home, ports }
    }

    fn pem(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(format!("{name}.pem"))).unwrap()
    }

    /// `127.0.0.1:PORT` of the server with this certificate.
    fn host(&self, name: &str) -> String {
        let index = NAMES.iter().position(|other| *other == name).unwrap();
        format!("127.0.0.1:{}", self.ports[index])
    }

    /// Configuration of the executor: the servers may be on this machine, and use TLS.
    fn config(&self) -> Value {
        let hosts: Vec<String> = NAMES.iter().map(|name| self.host(name)).collect();
        let listed = NAMES.iter().filter(|name| !NOT_LISTED.contains(name));
        let listed: Vec<String> = listed.map(|name| self.pem(name)).collect();
        json!({"sources": {"fileRoot": directory(), "insecure": hosts, "ca": listed}})
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the program prints for a module on the server with this certificate.
fn run(servers: &Servers, config: &Path, name: &str) -> String {
    finish(&mut command(servers, config, name))
}

fn command(servers: &Servers, config: &Path, name: &str) -> Command {
    let mut command = Command::new(program());
    command
        .arg("run")
        .arg(format!("https://{}/module.wasm", servers.host(name)))
        .arg("--config")
        .arg(config)
        .arg("--cache-dir")
        .arg(servers.home.path().join(format!("cache-{name}")));
    command
}

fn finish(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => "runs".to_owned(),
        false => text,
    }
}

#[test]
fn a_listed_certificate_is_trusted_on_its_own_server_and_nothing_else_is() {
    let servers = Servers::start();
    let config = servers.home.path().join("config.yaml");
    std::fs::write(&config, servers.config().to_string()).unwrap();
    for (name, expected) in [
        ("default", "runs"),
        ("authority", "runs"),
        ("end-entity", "runs"),
        ("no-constraints", "runs"),
        ("issued", "runs"),
        ("below-version-1", "runs"),
        ("any-use", "runs"),
        ("server-use", "runs"),
        ("any-leaf", "runs"),
        ("client-use", "is not a certificate for servers"),
        ("client-leaf", "is not a certificate for servers"),
        (
            "sibling",
            "is not trusted: no trusted authority issued the certificate",
        ),
        ("impostor", "is not trusted"),
        ("expired", "has expired"),
        ("early", "is not valid yet"),
        (
            "no-names",
            "the certificate has no `subjectAltName`, and the common name (CN) is not used",
        ),
        (
            "other-name",
            "is not valid for `127.0.0.1`: its names are `other.example`, `10.9.8.7`",
        ),
        ("version-1", "is an X.509 certificate of version 1"),
    ] {
        let seen = run(&servers, &config, name);
        assert!(seen.contains(expected), "{name}: {seen}");
    }
    for (name, hint) in [
        ("sibling", "add the authority to `sources.ca`"),
        ("no-names", "`subjectAltName=IP:127.0.0.1`"),
        ("version-1", "`subjectAltName=IP:127.0.0.1`"),
        ("other-name", "`subjectAltName=IP:127.0.0.1`"),
        ("expired", "renew the certificate"),
        ("early", "correct the clock"),
    ] {
        let seen = run(&servers, &config, name).to_lowercase();
        assert!(seen.contains(&hint.to_lowercase()), "{name}: {seen}");
    }
}

/// curl and Go accept a certificate that is its own authority from the machine's store, too.
#[test]
fn a_certificate_of_the_machines_store_is_trusted_on_its_own_server() {
    let servers = Servers::start();
    let config = servers.home.path().join("config.yaml");
    let mut without_list = servers.config();
    without_list["sources"]["ca"] = json!([]);
    std::fs::write(&config, without_list.to_string()).unwrap();
    let store = servers.home.path().join("store.pem");
    let stored = ["machine", "unlisted", "end-entity", "client-use", "expired"];
    let certificates: String = stored.map(|name| servers.pem(name)).concat();
    std::fs::write(&store, certificates).unwrap();
    let seen = |name: &str| {
        let mut command = command(&servers, &config, name);
        finish(command.env("SSL_CERT_FILE", &store))
    };
    for (name, expected) in [
        ("sibling", "runs"),
        ("machine", "runs"),
        ("end-entity", "runs"),
        ("client-use", "is not a certificate for servers"),
        ("expired", "has expired"),
        (
            "default",
            "is an authority that is not on the list of trusted certificates",
        ),
    ] {
        let seen = seen(name);
        assert!(seen.contains(expected), "{name}: {seen}");
    }
}

/// kubectl and Go accept a certificate that is its own authority, too.
#[test]
fn the_kubernetes_api_may_present_the_listed_certificate_authority_itself() {
    let servers = Servers::start();
    let at = |name: &str| servers.home.path().join(name);
    std::fs::write(at("config.yaml"), servers.config().to_string()).unwrap();
    let module = format!("https://{}/module.wasm", servers.host("default"));
    let wasm = json!({"module": module, "pull": {"secrets": [{"name": "regcred"}]}});
    let templates = json!([{"name": "t", "plugin": {"wasm": wasm}}]);
    let workflow =
        json!({"metadata": {"name": "w", "namespace": "argo"}, "spec": {"templates": templates}});
    std::fs::write(at("w.yaml"), workflow.to_string()).unwrap();
    for (name, listed, server_name, accepted) in [
        ("default", "default", "", true),
        ("authority", "authority", "", true),
        ("end-entity", "end-entity", "", true),
        ("sibling", "unlisted", "", true),
        ("issued", "issued", "", true),
        ("other-name", "other-name", "other.example", true),
        ("other-name", "other-name", "", false),
        ("no-names", "no-names", "", false),
        ("default", "authority", "", false),
        ("impostor", "default", "", false),
        ("sibling", "issued", "", false),
        ("expired", "expired", "", false),
        ("client-use", "client-use", "", false),
    ] {
        let mut cluster = json!({
            "server": format!("https://{}", servers.host(name)),
            "certificate-authority-data": STANDARD.encode(servers.pem(listed)),
        });
        if !server_name.is_empty() {
            cluster["tls-server-name"] = json!(server_name);
        }
        let kubeconfig = json!({
            "current-context": "c", "users": [], "clusters": [{"name": "k", "cluster": cluster}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "argo"}}],
        });
        std::fs::write(at("kubeconfig"), kubeconfig.to_string()).unwrap();
        let mut command = Command::new(program());
        command.current_dir(servers.home.path()).args([
            "run",
            "--template",
            "w.yaml",
            "--config",
            "config.yaml",
            "--kubeconfig",
            "kubeconfig",
            "--cache-dir",
        ]);
        let cache = format!("cache-{name}-{listed}-{server_name}");
        let seen = finish(command.arg(at(&cache)));
        match accepted {
            true => assert_eq!(seen, "runs", "{name}, {listed}"),
            false => assert!(
                seen.contains("Secret `regcred`") && seen.contains("certificate"),
                "{name}, {listed}: {seen}"
            ),
        }
    }
}

/// The clients of artifacts use the same verifier.
#[tokio::test(flavor = "multi_thread")]
async fn artifacts_trust_listed_certificates_on_their_own_servers() {
    let servers = Servers::start();
    let kubernetes = Kubernetes::start().await;
    let encode = |text: &str| STANDARD.encode(text);
    kubernetes.put(
        "secrets/s3",
        json!({"data": {
            "key": encode("k"), "ca": encode(&servers.pem("default")),
            "other": encode(&servers.pem("authority")), "expired": encode(&servers.pem("expired")),
        }}),
    );
    let flags = kubernetes.flags(servers.home.path());
    let executor = Executor::with_config(&servers.config(), flags);
    let step = |input: Value| {
        let mut step = template("word-count");
        let mut artifact = json!({"name": "text", "path": "/in/text"});
        artifact
            .as_object_mut()
            .unwrap()
            .extend(input.as_object().unwrap().clone());
        step["inputs"] = json!({"artifacts": [artifact]});
        step["plugin"]["wasm"]["args"] = json!(["/in/text", "/tmp/copy"]);
        step
    };
    let select = |key: &str| json!({"name": "s3", "key": key});
    let s3 = |certificate: &str, ca: Value| {
        json!({"s3": {
            "endpoint": servers.host(certificate), "bucket": "b", "key": "text",
            "accessKeySecret": select("key"), "secretKeySecret": select("key"), "caSecret": ca,
        }})
    };
    let http =
        |name: &str| json!({"http": {"url": format!("https://{}/text", servers.host(name))}});
    for (input, expected) in [
        (http("default"), ""),
        (http("issued"), ""),
        (http("sibling"), "add the authority to `sources.ca`"),
        (http("expired"), "has expired"),
        (s3("default", select("ca")), ""),
        (s3("default", Value::Null), ""),
        (
            s3("default", select("other")),
            "is an authority that is not on the list of trusted certificates: ask the operator to \
             add the certificate to `caSecret`",
        ),
        (s3("expired", select("expired")), "has expired"),
    ] {
        let node = executor.node(&step(input.clone())).await;
        match expected {
            "" => assert_eq!(node["outputs"]["result"], "2", "{input}: {node}"),
            expected => assert!(message(&node).contains(expected), "{input}: {node}"),
        }
    }
}
