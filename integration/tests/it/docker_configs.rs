//! Docker configurations and pull secrets as people write them: compared with skopeo, and the
//! errors about the parts that are not used.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, USER};

use crate::cli::{Cli, stderr, text};

/// A registry with the module `m:1` and one user, and the home directory of a client.
struct Setup {
    cli: Cli,
    registry: Registry,
}

impl Setup {
    async fn new() -> Self {
        let registry = Registry::start_with(Access::Password);
        let module = std::fs::read(guest("noop-command")).unwrap();
        registry.push_module("m:1", &module).await;
        let cli = Cli::new();
        std::fs::create_dir_all(cli.at(".docker")).unwrap();
        for (name, script) in [
            (
                "right",
                format!(r#"echo '{{"ServerURL":"x","Username":"{USER}","Secret":"{PASSWORD}"}}'"#),
            ),
            ("broken", "echo 'no keychain'; exit 1".to_owned()),
        ] {
            let helper = cli.at(&format!("docker-credential-{name}"));
            std::fs::write(&helper, format!("#!/bin/sh\ncat >/dev/null\n{script}\n")).unwrap();
            std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { cli, registry }
    }

    /// Replaces the placeholders of a configuration.
    fn filled(&self, config: &str) -> String {
        let encode = |pair: &str| STANDARD.encode(pair);
        let right = format!("{USER}:{PASSWORD}");
        config
            .replace("HOST", &self.registry.host)
            .replace("RIGHT", &encode(&right))
            .replace("UNPADDED", encode(&right).trim_end_matches('='))
            .replace("PADDED", &encode(&format!("{right}\0\0")))
            .replace("WRONG", &encode("user:hunter2"))
            .replace("NOCOLON", &encode("hunter2"))
            .replace("USER", USER)
            .replace("PASSWORD", PASSWORD)
    }

    fn write(&self, config: &str) {
        std::fs::write(self.cli.at(".docker/config.json"), self.filled(config)).unwrap();
    }

    /// Runs a client without a module of an earlier run.
    fn prepare(&self, command: &mut Command) -> Output {
        let _ = std::fs::remove_dir_all(self.cli.at("cache"));
        for name in ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }

    fn run(&self) -> Output {
        let host = &self.registry.host;
        let reference = format!("oci://{host}/m:1");
        let arguments = ["run", &reference, "--insecure-registry", host];
        self.prepare(&mut self.cli.command(&arguments))
    }

    fn skopeo(&self) -> Output {
        let reference = format!("docker://{}/m:1", self.registry.host);
        let path = format!(
            "{}:{}",
            self.cli.at("").display(),
            std::env::var("PATH").unwrap()
        );
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["inspect", "--raw", "--tls-verify=false", &reference])
            .env("HOME", self.cli.at(""))
            .env("PATH", path)
            .env_remove("DOCKER_CONFIG");
        self.prepare(&mut skopeo)
    }
}

/// Configurations that skopeo and this program accept or refuse alike.
const ALIKE: [&str; 35] = [
    r#"{"auths": {"HOST": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST": {"auth": "PADDED"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT\n"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT", "email": null, "identitytoken": null}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT", "email": "a@b", "x": [1]}}, "HttpHeaders": {"A": "b"}, "psFormat": ""}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}, "other.example": null}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}, "other.example": {}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}, "other.example": {"auth": "NOCOLON"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}, "other.example": {"auth": "***"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}}, "credHelpers": null, "credsStore": null}"#,
    r#"{"AUTHS": {"HOST": {"Auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST": {"auth": "WRONG", "auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT", "auth": "WRONG"}}}"#,
    r#"{"auths": {"https://HOST": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"http://HOST/v1/": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"https://HOST/v2/": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST/m": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST/m": {"auth": "RIGHT"}, "HOST": {"auth": "WRONG"}}}"#,
    r#"{"auths": {"HOST/other": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST0": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"other.example": {"auth": "RIGHT"}}}"#,
    r#"{"auths": {"HOST": {"auth": "WRONG"}}}"#,
    r#"{"auths": {"HOST": {"auth": "NOCOLON"}}}"#,
    r#"{"auths": {"HOST": {"auth": "***"}}}"#,
    r#"{"auths": {"HOST": {"auth": 5}}}"#,
    r#"{"auths": {"HOST": {"auth": ""}}}"#,
    r#"{"auths": {"HOST": {"auth": null}}}"#,
    r#"{"auths": {"HOST": {}}}"#,
    r#"{"auths": {"HOST": null}}"#,
    r#"{"auths": null}"#,
    "{}",
    "{",
    "[]",
    r#"{"credHelpers": {"HOST": "right"}}"#,
    r#"{"credHelpers": {"HOST": "broken"}}"#,
];

/// Configurations that this program accepts, as Docker and the kubelet do, and skopeo does not.
const MORE_THAN_SKOPEO: [&str; 4] = [
    r#"{"auths": {"HOST": {"auth": "UNPADDED"}}}"#,
    r#"{"auths": {"HOST": {"username": "USER", "password": "PASSWORD"}}}"#,
    r#"{"auths": {"HOST": {"auth": "RIGHT"}, "other.example": {"auth": 5}}}"#,
    r#"{"auths": {"HOST": {}}, "credsStore": "right"}"#,
];

#[tokio::test]
async fn docker_configurations_are_accepted_and_refused_as_by_skopeo() {
    let setup = Setup::new().await;
    let mut accepted = 0;
    for config in ALIKE {
        setup.write(config);
        let run = setup.run();
        let skopeo = setup.skopeo();
        assert_eq!(
            run.status.success(),
            skopeo.status.success(),
            "{config}\nthis program: {}\nskopeo: {}",
            stderr(&run),
            stderr(&skopeo)
        );
        accepted += i32::from(run.status.success());
        let shown = stderr(&run);
        assert!(
            !shown.contains("hunter2") && !shown.contains(&STANDARD.encode("hunter2")),
            "{shown}"
        );
    }
    // Docker's old file, and an empty variable in place of the directory.
    std::fs::remove_file(setup.cli.at(".docker/config.json")).unwrap();
    let legacy = setup.filled(r#"{"HOST": {"auth": "RIGHT", "email": null}, "x.example": null}"#);
    std::fs::write(setup.cli.at(".dockercfg"), legacy).unwrap();
    assert!(setup.run().status.success() && setup.skopeo().status.success());
    std::fs::remove_file(setup.cli.at(".dockercfg")).unwrap();
    assert!(
        accepted > 15,
        "{accepted} of the configurations are accepted"
    );
    for config in MORE_THAN_SKOPEO {
        setup.write(config);
        let run = setup.run();
        let skopeo = setup.skopeo();
        assert!(run.status.success(), "{config}: {}", stderr(&run));
        assert!(!skopeo.status.success(), "skopeo accepts {config}, too");
    }
}

#[tokio::test]
async fn the_error_of_a_refused_pull_names_what_was_not_used() {
    let setup = Setup::new().await;
    let file = setup.cli.at(".docker/config.json");
    let file = text(&file);
    let at = |rest: &str| format!("(401 Unauthorized); `{file}`{rest}");
    for (config, expected) in [
        (
            r#"{"auths": {"HOST": {"auth": "NOCOLON"}, "other.example": {"auth": "***"}}}"#,
            at(": its entry `HOST` has an `auth` without the `:` between user and password. "),
        ),
        (
            r#"{"auths": {"HOST": {"auth": "***"}}}"#,
            at(": its entry `HOST` has an `auth` that is not base64"),
        ),
        (
            r#"{"auths": {"HOST": {"auth": 5}}}"#,
            at(": its entry `HOST` is malformed: `auth`: expected a text, found a number"),
        ),
        (
            r#"{"auths": [], "credHelpers": 5}"#,
            at(": its `auths` is malformed: expected a map, found a list; "),
        ),
        (
            r#"{"auths": "#,
            at(" was not used: it is not a Docker configuration in JSON (not JSON, at line 1"),
        ),
        (
            r#"{"auths": {"other.example": {"auth": "RIGHT"}}}"#,
            at(" has nothing for HOST; it has other.example"),
        ),
        (
            r#"{"credHelpers": {"HOST": "none"}}"#,
            "the credentials of docker-credential-none cannot be obtained: there is no program `docker-credential-none` in `PATH`".to_owned(),
        ),
        (
            r#"{"credHelpers": {"HOST": "broken"}}"#,
            "the credential helper failed with exit status: 1 and the message `no keychain`".to_owned(),
        ),
    ] {
        setup.write(config);
        let run = setup.run();
        let shown = stderr(&run);
        assert_eq!(run.status.code(), Some(2), "{config}: {shown}");
        let expected = setup.filled(&expected);
        assert!(shown.contains(&expected), "{config}\n{shown}\n{expected}");
    }
    std::fs::remove_file(file).unwrap();
    std::fs::create_dir(file).unwrap();
    let run = setup.run();
    let shown = stderr(&run);
    assert!(
        shown.contains(&at(" was not used: it cannot be read: Is a directory")),
        "{shown}"
    );
    assert!(
        shown.contains("log in with `docker login`, `podman login` or `skopeo login`"),
        "{shown}"
    );
}

/// Secrets with null, bad entries and wrong types, as the agent's request names them.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pull_secret_does_not_affect_the_others_and_is_named() {
    let setup = Setup::new().await;
    let kubernetes = Kubernetes::start().await;
    let put = |name: &str, kind: &str, key: &str, config: &str| {
        let data = json!({key: STANDARD.encode(setup.filled(config)), "none": null});
        let metadata = json!({"annotations": null, "labels": null, "creationTimestamp": null});
        kubernetes.put(
            &format!("secrets/{name}"),
            json!({"type": kind, "metadata": metadata, "data": data}),
        );
    };
    let docker = "kubernetes.io/dockerconfigjson";
    let json_key = ".dockerconfigjson";
    let bad = r#"{"auths": {"HOST": {"auth": "NOCOLON"}, "other.example": null}}"#;
    put(
        "good",
        docker,
        json_key,
        r#"{"auths": {"HOST": {"auth": "RIGHT", "email": null}, "other.example": null}, "credsStore": null}"#,
    );
    put(
        "legacy",
        "kubernetes.io/dockercfg",
        ".dockercfg",
        r#"{"x.example": null, "HOST": {"auth": "RIGHT", "email": null}, "y.example": {"auth": "NOCOLON"}}"#,
    );
    put("bad", docker, json_key, bad);
    put(
        "elsewhere",
        docker,
        json_key,
        r#"{"auths": {"ghcr.io": {"auth": "WRONG"}, "quay.io": {"auth": "WRONG"}}}"#,
    );
    put("empty", docker, json_key, r#"{"auths": null}"#);
    put("broken", docker, json_key, "{");
    put("opaque", "Opaque", json_key, bad);
    put("nokey", docker, "other", bad);
    put("tls", "kubernetes.io/tls", json_key, bad);
    kubernetes.put(
        "secrets/null",
        json!({"type": docker, "metadata": null, "data": null}),
    );
    kubernetes.put(
        "secrets/malformed",
        json!({"type": docker, "data": {json_key: "hunter2!"}}),
    );
    kubernetes.put("secrets/list", json!({"type": docker, "data": ["hunter2"]}));
    let kubeconfig = kubernetes.kubeconfig(&setup.cli.at(""));
    let host = &setup.registry.host;
    let run = |secrets: &[&str]| {
        let secrets = secrets.iter().map(|name| json!({"name": name}));
        let pull = json!({"secrets": secrets.collect::<Vec<_>>()});
        let wasm = json!({"module": format!("oci://{host}/m:1"), "pull": pull});
        let workflow = json!({"metadata": {"name": "w", "namespace": "argo"}, "spec": {"templates": [{"name": "t", "plugin": {"wasm": wasm}}]}});
        std::fs::write(setup.cli.at("w.yaml"), workflow.to_string()).unwrap();
        let arguments = [
            "run",
            "--template",
            "w.yaml",
            "--insecure-registry",
            host,
            "--kubeconfig",
            text(&kubeconfig),
        ];
        setup.prepare(&mut setup.cli.command(&arguments))
    };
    for secrets in [
        &["good"][..],
        &["legacy"],
        &["bad", "good"],
        &["broken", "good"],
        &[
            "missing",
            "opaque",
            "nokey",
            "null",
            "malformed",
            "list",
            "good",
        ],
    ] {
        let output = run(secrets);
        assert!(output.status.success(), "{secrets:?}: {}", stderr(&output));
    }
    for (secrets, expected) in [
        (
            &["bad"][..],
            "(401 Unauthorized); Secret `bad`: its entry `HOST` has an `auth` without the `:` between user and password. ",
        ),
        (
            &["elsewhere"],
            "(401 Unauthorized); Secret `elsewhere` has nothing for HOST; it has quay.io, ghcr.io",
        ),
        (
            &["elsewhere", "broken"],
            "Secret `broken` cannot be used: it is not a Docker configuration in JSON (not JSON, at line 1 column 1); Secret `elsewhere` has nothing for HOST",
        ),
        (&["empty"], "Secret `empty` has no credentials"),
        (
            &["broken"],
            "Secret `broken` cannot be used: it is not a Docker configuration in JSON",
        ),
        (
            &["opaque"],
            "Secret `opaque` cannot be used: it has the key `.dockerconfigjson` of a Docker configuration, but its type is not `kubernetes.io/dockerconfigjson`; create it with this type",
        ),
        (
            &["nokey"],
            "Secret `nokey` cannot be used: it has no key `.dockerconfigjson`, which its type demands",
        ),
        (
            &["null"],
            "Secret `null` cannot be used: it has no key `.dockerconfigjson`",
        ),
        (&["tls"], "it is of the type `kubernetes.io/tls`"),
        (
            &["malformed"],
            "Secret `malformed` cannot be used: the value of its key `.dockerconfigjson` is not base64",
        ),
        (
            &["list"],
            "Secret `list` of namespace `argo` cannot be parsed: `data`: expected a map, found a list",
        ),
        (
            &["missing", "broken"],
            "there is no Secret `missing` of namespace `argo`",
        ),
    ] {
        let output = run(secrets);
        let shown = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{secrets:?}: {shown}");
        assert!(
            shown.contains(&setup.filled(expected)),
            "{secrets:?}\n{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
