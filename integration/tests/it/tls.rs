//! A registry over TLS with a certificate authority of its own, and through a proxy: in a network namespace, where it has a private
//! address. (On loopback a host has to be listed, and is then spoken to in plain HTTP.)

use std::path::Path;
use std::process::Command;

use wasm_workflow_integration::executor::program;
use wasm_workflow_integration::guests::{guest, repository};

/// Ends with the registry's and the proxy's processes: they are its children.
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
run push "$PROGRAM" push "$MODULE" oci://10.1.2.3:5000/m:1 --config trusting.yaml --cache-dir one
run trusting "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --config trusting.yaml --cache-dir two
run doubting "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --cache-dir three
export HTTPS_PROXY=http://127.0.0.1:3128
run proxied-run "$PROGRAM" run oci://10.1.2.3:5000/m:1 -p name=Ada --config trusting.yaml --cache-dir four
"#;

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn registries_over_tls_use_the_configured_ca_and_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let write = |name: &str, text: String| std::fs::write(at(name), text).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        directory.path(),
        &format!("req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.pem"),
    );
    openssl(
        directory.path(),
        &format!(
            "req {} -subj /CN=registry -keyout key.pem -out request.pem",
            key.replace(" -days 2", "")
        ),
    );
    write("names", "subjectAltName=IP:10.1.2.3\n".to_owned());
    openssl(
        directory.path(),
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    );
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
        "trusting.yaml",
        format!("sources:\n  ca:\n  - |\n    {authority}\n"),
    );
    let output = Command::new("unshare")
        .args(["--net", "bash", "-c", SCRIPT])
        .current_dir(directory.path())
        .env("PROGRAM", program())
        .env("MODULE", guest("greeting"))
        .env("PROXY", repository().join("integration/proxy.py"))
        .env("HOME", directory.path())
        .output()
        .expect("unshare");
    assert!(
        output.status.success(),
        "needs root, ip and curl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = |name: &str| std::fs::read_to_string(at(&format!("{name}.out"))).unwrap();
    assert!(
        said("push").contains("oci://10.1.2.3:5000/m@sha256:"),
        "{}",
        said("push")
    );
    assert!(
        said("trusting").contains("Hello, Ada!"),
        "{}",
        said("trusting")
    );
    let doubting = said("doubting");
    assert!(
        doubting.contains("certificate") && doubting.contains("failed"),
        "{doubting}"
    );
    assert!(
        said("proxied-run").contains("Hello, Ada!"),
        "{}",
        said("proxied-run")
    );
    assert!(
        std::fs::read_to_string(at("proxied"))
            .unwrap()
            .contains("10.1.2.3:5000"),
        "the proxy was used"
    );
}
