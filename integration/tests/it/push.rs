//! The command `push`, with Docker's credentials, to Debian's registry.

use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, TokenServer, USER};

use crate::cli::{Cli, assert_ended, stderr, stdout, text};

/// Writes a Docker configuration, as `docker login` does.
fn log_in(cli: &Cli, config: &Value) {
    std::fs::create_dir_all(cli.at(".docker")).unwrap();
    std::fs::write(cli.at(".docker/config.json"), config.to_string()).unwrap();
}

/// Pushes a guest, and runs it from the registry.
fn push_and_run(cli: &Cli, name: &str, host: &str, flags: &[&str]) {
    let reference = format!("oci://{host}/acme/{name}:1");
    let module = guest(name);
    let pushed = cli.run(&[&["push", text(&module), &reference], flags].concat());
    assert_eq!(pushed.status.code(), Some(0), "{}", stderr(&pushed));
    let pinned = stdout(&pushed).trim().to_owned();
    let ran = cli.run(
        &[
            &["run", &pinned, "-p", "text=Hello", "-p", "name=Ada"],
            flags,
        ]
        .concat(),
    );
    assert_eq!(ran.status.code(), Some(0), "{}", stderr(&ran));
    assert!(
        stderr(&ran).contains("Hello") || stdout(&ran).contains("Hello"),
        "{}",
        stderr(&ran)
    );
}

#[tokio::test]
async fn pushed_modules_have_the_cncf_layout() {
    let cli = Cli::new();
    let registry = Registry::start();
    let flags = [
        "--insecure-registry",
        &registry.host,
        "--annotation",
        "org.opencontainers.image.title=ferris",
    ];
    let module = guest("ferris-says");
    let pushed = cli.run(
        &[
            &[
                "push",
                text(&module),
                &format!("{}/ferris:1", registry.host),
            ],
            &flags[..],
        ]
        .concat(),
    );
    assert_eq!(pushed.status.code(), Some(0), "{}", stderr(&pushed));
    // skopeo, of another project, reads the artifact.
    let raw = |what: &[&str]| {
        let address = format!("docker://{}/ferris:1", registry.host);
        let shown = std::process::Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--raw"])
            .args(what)
            .arg(address)
            .output()
            .unwrap();
        assert!(
            shown.status.success(),
            "{}",
            String::from_utf8_lossy(&shown.stderr)
        );
        shown.stdout
    };
    let manifest = raw(&[]);
    assert!(
        stdout(&pushed)
            .trim()
            .ends_with(&sources::Digest::of(&manifest).to_string()),
        "{}",
        stdout(&pushed)
    );
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let module = std::fs::read(module).unwrap();
    let digest = sources::Digest::of(&module).to_string();
    assert_eq!(
        manifest["layers"],
        json!([{"mediaType": "application/wasm", "digest": digest, "size": module.len()}])
    );
    assert_eq!(
        manifest["config"]["mediaType"],
        "application/vnd.wasm.config.v0+json"
    );
    assert_eq!(
        manifest["annotations"],
        json!({"org.opencontainers.image.title": "ferris"})
    );
    let config: Value = serde_json::from_slice(&raw(&["--config"])).unwrap();
    assert_eq!(
        (&config["os"], &config["layerDigests"]),
        (&json!("wasip1"), &json!([digest]))
    );
    assert_eq!(config.get("component"), None);
}

#[tokio::test]
async fn push_uses_passwords_from_docker_login_and_credential_helpers() {
    let registry = Registry::start_with(Access::Password);
    let cli = Cli::new();
    let host = registry.host.as_str();
    let flags = ["--insecure-registry", host];
    let refused = cli.run(
        &[
            &[
                "push",
                text(&guest("greeting")),
                &format!("{host}/acme/g:1"),
            ],
            &flags[..],
        ]
        .concat(),
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("refuses upload of the module"),
        "{}",
        stderr(&refused)
    );
    log_in(
        &cli,
        &json!({"auths": {host: {"auth": STANDARD.encode(format!("{USER}:{PASSWORD}"))}}}),
    );
    push_and_run(&cli, "ferris-says", host, &flags);
    let cli = Cli::new();
    log_in(&cli, &json!({"credHelpers": {host: "here"}}));
    let refused = cli.run(
        &[
            &[
                "push",
                text(&guest("greeting")),
                &format!("{host}/acme/g:1"),
            ],
            &flags[..],
        ]
        .concat(),
    );
    let expected =
        "the credentials of docker-credential-here cannot be obtained: there is no program";
    assert!(stderr(&refused).contains(expected), "{}", stderr(&refused));
    let helper = cli.at("docker-credential-here");
    let script = format!(
        "#!/bin/sh\ncat >host\nprintf '{{\"Username\": \"{USER}\", \"Secret\": \"{PASSWORD}\"}}'\n"
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    push_and_run(&cli, "greeting", host, &flags);
    assert_eq!(
        std::fs::read_to_string(cli.at("host")).unwrap().trim(),
        host
    );
}

/// A push requests a token for pushing. A pull requests a token only for pulling.
#[tokio::test]
async fn push_requests_a_token_with_push_scope() {
    let server = TokenServer::start().await;
    let registry = Registry::start_with(Access::Token(&server));
    let cli = Cli::new();
    let host = registry.host.clone();
    let realm = server
        .realm
        .strip_prefix("http://")
        .unwrap()
        .strip_suffix("/token")
        .unwrap()
        .to_owned();
    log_in(
        &cli,
        &json!({"auths": {&host: {"auth": STANDARD.encode(format!("{USER}:{PASSWORD}"))}}}),
    );
    // The token server is on another port of the registry's host.
    let sources = json!({"insecure": [host, realm], "trustedRealms": [realm]});
    let config = cli.at("config.json");
    std::fs::write(&config, json!({"sources": sources}).to_string()).unwrap();
    let run = move || {
        push_and_run(&cli, "greeting", &host, &["--config", text(&config)]);
    };
    tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(
        server.requests(),
        [
            "password repository:acme/greeting:pull,push",
            "password repository:acme/greeting:pull"
        ]
    );
}

#[test]
fn invalid_pushes_are_errors() {
    let cli = Cli::new();
    let module = guest("greeting");
    std::fs::write(cli.at("page.wasm"), "<html>").unwrap();
    let digest = format!("oci://ghcr.io/a/b@{}", sources::Digest::of(b""));
    for (file, reference, code, expected) in [
        (text(&module), "https://example.com/x", 64, "https"),
        (
            text(&module),
            digest.as_str(),
            64,
            "must name a tag in a registry",
        ),
        (
            text(&module),
            "acme/g:1",
            64,
            "names no registry\nhint: the full reference would be oci://docker.io/acme/g:1",
        ),
        (text(&module), "localhost:5000", 64, "names no registry"),
        (
            text(&module),
            "acme/g",
            64,
            "`acme/g` must name a tag in a registry",
        ),
        (text(&module), "ghcr.io/Acme/g:1", 64, "lower case"),
        (
            "page.wasm",
            "oci://ghcr.io/a/b:1",
            2,
            "this is not WebAssembly",
        ),
        ("none.wasm", "oci://ghcr.io/a/b:1", 64, "`none.wasm`"),
    ] {
        let output = cli.run(&["push", file, reference]);
        assert_ended(&output, code, expected, &reference);
    }
}

/// With the same `SOURCE_DATE_EPOCH`, a module has the same digest each time.
#[tokio::test]
async fn repeated_pushes_have_the_same_digest() {
    let cli = Cli::new();
    let registry = Registry::start();
    let module = guest("greeting");
    let push = |epoch: &str| {
        let arguments = [
            "push",
            "--insecure-registry",
            &registry.host,
            text(&module),
            &format!("{}/g:1", registry.host),
        ];
        cli.command(&arguments)
            .env("SOURCE_DATE_EPOCH", epoch)
            .output()
            .unwrap()
    };
    let first = push("1700000000");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert_eq!(stdout(&push("1700000000")), stdout(&first));
    assert_ne!(stdout(&push("1700000001")), stdout(&first));
    let invalid = push("yesterday");
    assert!(
        invalid.status.code() == Some(64)
            && stderr(&invalid).contains("SOURCE_DATE_EPOCH is not a number of seconds"),
        "{}",
        stderr(&invalid)
    );
}

#[test]
fn push_of_a_packed_module_says_to_unpack_it() {
    let cli = Cli::new();
    for (name, content) in [
        ("m.wasm.gz", &b"\x1f\x8b\x08rest"[..]),
        ("m.tgz", &b"\x1f\x8b\x08rest"[..]),
        ("m.wasm", &b"\x1f\x8b\x08rest"[..]),
        ("m.zip", &b"PK\x03\x04rest"[..]),
        ("m.tar", &b"m.wasm"[..]),
    ] {
        std::fs::write(cli.at(name), content).unwrap();
        let output = cli.run(&["push", name, "oci://ghcr.io/a/b:1"]);
        let expected = "hint: unpack it first: `push` reads a `.wasm` file";
        assert_ended(&output, 2, expected, &name);
    }
}

#[tokio::test]
async fn push_of_a_module_that_cannot_run_warns_with_the_reason_of_inspect() {
    let cli = Cli::new();
    let registry = Registry::start();
    std::fs::write(cli.at("empty.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let shown = cli.run(&["inspect", "empty.wasm"]);
    let (_, reason) = stdout(&shown).split_once("nothing, because ").unwrap();
    let reason = reason.lines().next().unwrap();
    let reference = format!("oci://{}/acme/empty:1", registry.host);
    let flags = ["--insecure-registry", &registry.host];
    let pushed = cli.run(&[&["push", "empty.wasm", &reference], &flags[..]].concat());
    let expected = format!("warning: the executor cannot run `empty.wasm`: {reason}\nhint: ");
    assert_ended(&pushed, 0, &expected, &"empty");
    let greeting = guest("greeting");
    let pushed = cli.run(&[&["push", text(&greeting), &reference], &flags[..]].concat());
    assert!(!stderr(&pushed).contains("warning"), "{}", stderr(&pushed));
}
