//! The command `config check`.

use super::{Cli, assert_ended, stderr, stdout};

#[test]
fn config_check_prints_the_effective_configuration() {
    let cli = Cli::new();
    std::fs::write(
        cli.at("c.yaml"),
        "limits: {memory: 1Gi}\nsources: {insecure: [a]}\n",
    )
    .unwrap();
    let output = cli.run(&[
        "config",
        "check",
        "--config",
        "c.yaml",
        "--insecure-registry",
        "b:1",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(
        printed.contains("memory: 1Gi") && printed.contains("b:1") && !printed.contains("- a"),
        "{printed}"
    );
    std::fs::write(cli.at("c.yaml"), "limit: {}").unwrap();
    let output = cli.run(&["config", "check", "--config", "c.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        stderr(&output).contains("unknown key `limit`; did you mean `limits`?"),
        "{}",
        stderr(&output)
    );
}

/// `config check` reports each error that would prevent a start of `serve`.
#[test]
fn config_check_reports_everything_that_prevents_a_start() {
    let cli = Cli::new();
    for (document, code, expected) in [
        (
            "sources: {credentials: [{host: h}]}",
            64,
            "needs `username` and `passwordFrom`, or `tokenFrom` alone",
        ),
        (
            "sources: {credentials: [{host: h, username: u, passwordFrom: {env: UNSET_HERE}}]}",
            64,
            "the configuration in `c.yaml`: `sources.credentials[0].passwordFrom.env`: `UNSET_HERE`: there is no such environment variable",
        ),
        (
            "sources: {credentials: [{host: h, tokenFrom: {file: /none}}]}",
            64,
            "`sources.credentials[0].tokenFrom.file`: `/none`: the file cannot be read",
        ),
        (
            "sources: {policy: {signatures: [{references: ['*']}]}}",
            64,
            "`sources.policy.signatures[0]` needs `keys` or `keyless`",
        ),
        (
            "sources: {policy: {signatures: [{references: ['*'], keyless: {issuer: i, subject: s}}]}}",
            64,
            "this program was built without keyless signatures",
        ),
        (
            "sources: {policy: {signatures: [{references: ['*'], keys: [/etc/key.pub]}]}}",
            64,
            "the key is not a public key in PEM",
        ),
        (
            "sources: {policy: {signatures: [{references: ['ghcr.io/*'], keys: [x]}]}}",
            64,
            "matches no reference",
        ),
        ("sources: {ca: [/etc/ca.pem]}", 64, "and not a path"),
        (
            "sources: {ca: ['-----BEGIN CERTIFICATE----- no']}",
            64,
            "certificate",
        ),
        (
            "sources: {fileRoot: /none/here}",
            64,
            "there is no directory `/none/here`",
        ),
        ("limits: {entries: 0}", 64, "must be at least 16"),
        ("sources: {maxModuleSize: 0}", 64, "must be at least 1Ki"),
        (
            "capacity: {steps: many}",
            64,
            "`capacity.steps`: must be between 1 and 1024",
        ),
        (
            "capacity: {steps: -1}",
            64,
            "`capacity.steps`: must be between 1 and 1024",
        ),
        (
            "sources: {fileRoot: modules}",
            64,
            "must be an absolute path",
        ),
        ("limits: {memory: 100Gi}", 64, "must be at most 4Gi"),
        (
            "telemetry: {log: {level: loud}}",
            64,
            "`loud` is not a log level",
        ),
        ("limits: {time: 1s}\nlimits: {time: 2s}", 64, "line 2"),
        (
            "sources: {credentials: [{host: h, passwordFrom: hunter2}]}",
            64,
            "expected a map, found a text",
        ),
        ("telemetry: {log: {level: ''}}", 64, "is not a log level"),
        (
            "sources: {maxStoreSize: 1Gi, maxModuleSize: 1Gi}",
            64,
            "at least four times",
        ),
    ] {
        std::fs::write(cli.at("c.yaml"), document).unwrap();
        let output = cli.run(&["config", "check", "--config", "c.yaml"]);
        assert_ended(&output, code, expected, &document);
    }
}

/// Steps without files need no scratch directory. An unwritable directory is therefore only a
/// warning.
#[test]
fn config_check_warns_about_unwritable_directories() {
    let output = Cli::new().run(&[
        "config",
        "check",
        "--scratch-dir",
        "/proc/none",
        "--cache-dir",
        "/proc/none",
    ]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("modules cannot be fetched"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("steps that use files cannot run"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn config_check_warns_about_too_little_memory_and_missing_keys() {
    let cli = Cli::new();
    let config = "capacity: {memory: 64Mi}\nlimits: {memory: 1Gi}\nartifacts: {repository: {s3: {endpoint: h, bucket: b}}}\n";
    let run = |key: &str| {
        let mut command = cli.command(&["config", "check"]);
        command
            .env("WASM_WORKFLOW_CONFIG", config)
            .env_remove("AWS_ACCESS_KEY_ID");
        if !key.is_empty() {
            command.env("AWS_ACCESS_KEY_ID", key);
        }
        stderr(&command.output().unwrap()).to_owned()
    };
    let warnings = run("");
    assert!(
        warnings.contains("a step gets at most `capacity.memory`"),
        "{warnings}"
    );
    assert!(
        warnings.contains(
            "the artifact repository names no keys, and the environment has no AWS credentials"
        ),
        "{warnings}"
    );
    assert!(!run("key").contains("names no keys"));
}
