//! A registry over TLS with its own certificate authority, directly and through a proxy.
//!
//! The test runs in a network namespace, where the registry has a private address. On loopback, a
//! host must be listed as insecure, and then the executor uses plain HTTP.

use std::path::Path;
use std::process::Command;

use wasm_workflow_integration::executor::program;
use wasm_workflow_integration::guests::{guest, repository};
use wasm_workflow_integration::other_programs::{openssl, write_certificates};

/// Starts the registry and the proxy, and runs the program with them. At its end, the script stops
/// both.
const SCRIPT: &str = r#"
set -eu
ip link set lo up
ip addr add 10.1.2.3/32 dev lo
docker-registry serve registry.yml >/dev/null 2>&1 &
registry=$!
python3 "$PROXY" 3128 proxied >/dev/null 2>&1 &
proxy=$!
trap 'kill $registry $proxy; wait' EXIT
for _ in $(seq 100); do
  if curl -s --cacert ca.pem https://10.1.2.3:5000/v2/ >/dev/null && { true </dev/tcp/127.0.0.1/3128; } 2>/dev/null; then break; fi
  sleep 0.1
done
run() { name=$1; shift; "$@" >"$name.out" 2>&1 || echo "failed" >>"$name.out"; }
run push "$PROGRAM" push "$MODULE" oci://10.1.2.3:5000/m:1 --config ca.yaml
run with-ca "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --config ca.yaml --cache-dir two
run without-ca "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --cache-dir three
export HTTPS_PROXY=http://127.0.0.1:3128
run through-proxy "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --config ca.yaml --cache-dir four
"#;

#[test]
fn registries_over_tls_use_the_configured_ca_and_proxy() {
    let directory = tempfile::tempdir().unwrap();
    write_certificates(directory.path(), "IP:10.1.2.3");
    push_and_run(directory.path());
}

/// The certificate signed itself and is an authority: `openssl req -x509` makes it so.
#[test]
fn registries_over_tls_may_have_a_listed_certificate_that_signed_itself() {
    let directory = tempfile::tempdir().unwrap();
    openssl(
        directory.path(),
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=r -addext subjectAltName=IP:10.1.2.3 -keyout key.pem -out cert.pem",
    );
    let at = |name: &str| directory.path().join(name);
    std::fs::copy(at("cert.pem"), at("ca.pem")).unwrap();
    push_and_run(directory.path());
}

/// Pushes a module to a registry with the certificate `cert.pem`, and runs the module: with
/// `sources.ca` from `ca.pem`, without it, and through a proxy.
fn push_and_run(directory: &Path) {
    let at = |name: &str| directory.join(name);
    let write = |name: &str, text: String| std::fs::write(at(name), text).unwrap();
    let storage = at("data").display().to_string();
    write(
        "registry.yml",
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\nhttp: {{addr: '10.1.2.3:5000', tls: {{certificate: cert.pem, key: key.pem}}}}\n"
        ),
    );
    let authority = std::fs::read_to_string(at("ca.pem"))
        .unwrap()
        .replace('\n', "\n    ");
    write(
        "ca.yaml",
        format!("sources:\n  ca:\n  - |\n    {authority}\n"),
    );
    let output = Command::new("unshare")
        .args(["--net", "bash", "-c", SCRIPT])
        .current_dir(directory)
        .env("PROGRAM", program())
        .env("MODULE", guest("greeting"))
        .env("PROXY", repository().join("integration/proxy.py"))
        .env("HOME", directory)
        .output()
        .expect("unshare");
    assert!(
        output.status.success(),
        "this test needs root, ip and curl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output_of = |name: &str| std::fs::read_to_string(at(&format!("{name}.out"))).unwrap();
    let push = output_of("push");
    assert!(push.contains("oci://10.1.2.3:5000/m@sha256:"), "{push}");
    let with_ca = output_of("with-ca");
    assert!(with_ca.contains("Hello, Ada!"), "{with_ca}");
    let without_ca = output_of("without-ca");
    assert!(
        without_ca.contains("certificate") && without_ca.contains("failed"),
        "{without_ca}"
    );
    let through_proxy = output_of("through-proxy");
    assert!(through_proxy.contains("Hello, Ada!"), "{through_proxy}");
    assert!(
        std::fs::read_to_string(at("proxied"))
            .unwrap()
            .contains("10.1.2.3:5000"),
        "the proxy was used"
    );
}
