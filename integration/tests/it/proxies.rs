//! Proxies in the environment and in a kubeconfig. The proxy here connects every host to this
//! machine, so a host that only the proxy can reach shows that the proxy was used.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wasm_workflow_integration::guests::guest;
use wasm_workflow_integration::kubernetes::Kubernetes;
use wasm_workflow_integration::registry::{Access, Registry};
use wasm_workflow_integration::token_server::{PASSWORD, USER};

use crate::cli::{Cli, stderr, text};

/// A proxy for CONNECT and SOCKS 5. It accepts one user.
struct Proxy {
    address: String,
    /// The targets of the requests, as the client named them.
    targets: Arc<Mutex<Vec<String>>>,
}

/// Base64 of `user:pass word`.
const LOGIN: &str = "Basic dXNlcjpwYXNzIHdvcmQ=";

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&seen)));
            }
        });
        Self { address, targets }
    }

    fn has_seen(&self, target: &str) -> bool {
        self.targets
            .lock()
            .unwrap()
            .iter()
            .any(|seen| seen == target)
    }
}

async fn serve(mut client: TcpStream, seen: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut first = [0];
    client.peek(&mut first).await?;
    let target = match first {
        [5] => socks_target(&mut client).await?,
        _ => match connect_target(&mut client).await? {
            Some(target) => target,
            None => return Ok(()),
        },
    };
    seen.lock().unwrap().push(target.clone());
    let port = target.rsplit(':').next().unwrap_or_default();
    let mut server = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// The target of a CONNECT request. `None` if the request has another login.
async fn connect_target(client: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if !head.contains(LOGIN) {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        client.write_all(answer.as_bytes()).await?;
        return Ok(None);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(head.split(' ').nth(1).map(str::to_owned))
}

/// The target of a SOCKS 5 request with the name of a host (RFC 1928).
async fn socks_target(client: &mut TcpStream) -> std::io::Result<String> {
    let mut methods = [0; 2];
    client.read_exact(&mut methods).await?;
    client.read_exact(&mut vec![0; methods[1].into()]).await?;
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 5];
    client.read_exact(&mut request).await?;
    let mut name = vec![0; request[4].into()];
    client.read_exact(&mut name).await?;
    let port = client.read_u16().await?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    Ok(format!("{}:{port}", String::from_utf8_lossy(&name)))
}

/// Runs the program with an empty cache, in another thread: the proxy and the API server are tasks
/// of this thread. Several runs at the same time do not disturb each other.
async fn run(cli: &Cli, arguments: &[&str], variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = cli.command(arguments);
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().copied());
    let home = tempfile::tempdir().unwrap();
    command
        .env("WASM_WORKFLOW_CACHE_DIR", home.path().join("cache"))
        .env("WASM_WORKFLOW_SCRATCH_DIR", home.path().join("scratch"));
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// An API server with the pull secret of a registry, and a Workflow that needs the secret.
async fn with_secret(cli: &Cli) -> (Kubernetes, Registry) {
    let registry = Registry::start_with(Access::Password);
    let module = std::fs::read(guest("noop-command")).unwrap();
    registry.push_module("m:1", &module).await;
    let kubernetes = Kubernetes::start().await;
    let login = json!({"username": USER, "password": PASSWORD});
    kubernetes.put_pull_secret("regcred", &json!({"auths": {&registry.host: login}}));
    let pull = json!({"secrets": [{"name": "regcred"}]});
    let wasm = json!({"module": format!("oci://{}/m:1", registry.host), "pull": pull});
    let templates = json!([{"name": "t", "plugin": {"wasm": wasm}}]);
    let workflow =
        json!({"metadata": {"name": "w", "namespace": "argo"}, "spec": {"templates": templates}});
    std::fs::write(cli.at("w.yaml"), workflow.to_string()).unwrap();
    (kubernetes, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_api_is_reached_through_the_proxy_of_the_environment_or_the_kubeconfig() {
    let cli = Cli::new();
    let (kubernetes, registry) = with_secret(&cli).await;
    let proxy = Proxy::start().await;
    let kubeconfig = kubernetes.kubeconfig(&cli.at(""));
    let direct = std::fs::read_to_string(&kubeconfig).unwrap();
    let api = direct.split("http://127.0.0.1:").nth(1).unwrap();
    let port = api.split('"').next().unwrap();
    let server = format!("api.example:{port}");
    let away = direct.replace(&format!("127.0.0.1:{port}"), &server);
    let with_url =
        |url: &str| away.replace(r#""server""#, &format!(r#""proxy-url":"{url}","server""#));
    let http = format!("http://user:pass%20word@{}", proxy.address);
    let socks = format!("socks5://{}", proxy.address);
    let socks_h = format!("socks5h://{}", proxy.address);
    let arguments = [
        "run",
        "--template",
        "w.yaml",
        "--insecure-registry",
        &registry.host,
        "--kubeconfig",
        text(&kubeconfig),
    ];
    for (file, variables, proxied) in [
        // The API server on this machine is reached without the proxy.
        (
            &direct,
            vec![
                ("HTTPS_PROXY", "http://127.0.0.1:9"),
                ("NO_PROXY", "127.0.0.1"),
            ],
            false,
        ),
        (
            &direct,
            vec![
                ("HTTPS_PROXY", "http://127.0.0.1:9"),
                ("ALL_PROXY", "127.0.0.1:9"),
            ],
            false,
        ),
        (
            &away,
            vec![
                ("HTTP_PROXY", http.as_str()),
                ("NO_PROXY", " ,other.example,10.0.0.0/8,"),
            ],
            true,
        ),
        (&away, vec![("http_proxy", http.as_str())], true),
        (&away, vec![("all_proxy", socks_h.as_str())], true),
        (&with_url(&http), vec![("NO_PROXY", "*")], true),
        (&with_url(&socks), vec![], true),
    ] {
        std::fs::write(&kubeconfig, file).unwrap();
        proxy.targets.lock().unwrap().clear();
        let output = run(&cli, &arguments, &variables).await;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{variables:?}: {}",
            stderr(&output)
        );
        assert_eq!(proxy.has_seen(&server), proxied, "{variables:?}");
    }
    std::fs::write(&kubeconfig, &away).unwrap();
    let wrong = format!("http://user:hunter2@{}", proxy.address);
    for (variables, expected) in [
        (
            vec![("HTTP_PROXY", wrong.as_str())],
            format!("through the proxy `http://{}`", proxy.address),
        ),
        (
            vec![("HTTP_PROXY", wrong.as_str()), ("NO_PROXY", "example")],
            "Secret `regcred` of namespace `argo` could not be read".to_owned(),
        ),
        (
            vec![("HTTP_PROXY", "ftp://hunter2")],
            "the environment variable HTTP_PROXY is not the URL of a proxy".to_owned(),
        ),
    ] {
        let output = run(&cli, &arguments, &variables).await;
        let shown = stderr(&output);
        assert!(shown.contains(&expected), "{variables:?}: {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// Modules and artifacts: both clients use the same proxy, and name the proxy in errors. The
/// program retries each request, so all runs are at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn every_client_uses_the_proxy_and_names_it_in_errors() {
    let cli = Cli::new();
    let module = guest("noop-command");
    let key = json!({"name": "k", "key": "a"});
    let repository = json!({"s3": {"endpoint": "s3.example", "bucket": "b", "insecure": false,
        "accessKeySecret": key, "secretKeySecret": key}});
    std::fs::write(cli.at("repository.yaml"), repository.to_string()).unwrap();
    let kubernetes = Kubernetes::start().await;
    kubernetes.put("secrets/k", json!({"data": {"a": "YQ=="}}));
    let kubeconfig = kubernetes.kubeconfig(&cli.at(""));
    for (name, location) in [
        ("http", json!({"url": "https://files.example/a"})),
        ("s3", json!({"key": "k"})),
    ] {
        let artifact = json!({"name": "a", "path": "/in/a", name: location});
        let template = json!({"name": "t", "inputs": {"artifacts": [artifact]}, "plugin": {"wasm": {"module": "a/b:1"}}});
        let workflow = json!({"metadata": {"name": "w", "namespace": "argo"}, "spec": {"templates": [template]}});
        std::fs::write(cli.at(&format!("{name}.yaml")), workflow.to_string()).unwrap();
    }
    let artifact = |file| {
        vec![
            "run",
            "--template",
            file,
            text(&module),
            "--kubeconfig",
            text(&kubeconfig),
        ]
    };
    let in_bucket = [
        artifact("s3.yaml"),
        vec!["--artifact-repository", "repository.yaml"],
    ]
    .concat();
    let with_url = artifact("http.yaml");
    let files = "files.example:443";
    tokio::join!(
        check_client(
            &cli,
            &["run", "oci://registry.example/m:1"],
            "registry.example:443"
        ),
        check_client(&cli, &["run", "https://files.example/m.wasm"], files),
        check_client(&cli, &with_url, files),
        check_client(&cli, &in_bucket, "s3.example:443"),
    );
}

/// Runs the program with a proxy that refuses the login, with a proxy that accepts the login, and
/// without a proxy. Nothing listens on port 443 of this machine, so each run fails.
async fn check_client(cli: &Cli, arguments: &[&str], target: &str) {
    let proxy = Proxy::start().await;
    let refused = format!("http://user:hunter2@{}", proxy.address);
    let accepted = format!("http://user:pass%20word@{}", proxy.address);
    let all = [("ALL_PROXY", accepted.as_str())];
    let direct = [("HTTPS_PROXY", refused.as_str()), ("NO_PROXY", ".example")];
    let (with_refused, with_accepted, without) = tokio::join!(
        run(cli, arguments, &direct[..1]),
        run(cli, arguments, &all),
        run(cli, arguments, &direct),
    );
    let shown_proxy = format!("`http://{}`", proxy.address);
    let shown = stderr(&with_refused);
    let expected =
        format!("the proxy {shown_proxy} demands a user and a password, or refuses them (407)");
    assert!(shown.contains(&expected), "{target}: {shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown = stderr(&with_accepted);
    assert!(
        proxy.has_seen(target),
        "{target}: {:?} {shown}",
        proxy.targets
    );
    assert!(
        shown.contains(&format!("through the proxy {shown_proxy}")),
        "{target}: {shown}"
    );
    let shown = stderr(&without);
    assert!(!shown.contains("proxy"), "{target}: {shown}");
}

/// The operator's proxy may be on this machine, under any name. A workflow may not name it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_on_this_machine_is_used_and_does_not_open_this_machine_to_workflows() {
    let cli = Cli::new();
    let proxy = Proxy::start().await;
    let port = proxy.address.rsplit(':').next().unwrap();
    let variables = format!("http://user:pass%20word@localhost:{port}");
    let output = run(
        &cli,
        &["run", "oci://registry.example/m:1"],
        &[("HTTPS_PROXY", &variables)],
    )
    .await;
    assert!(
        proxy.has_seen("registry.example:443"),
        "{}",
        stderr(&output)
    );
    let own = format!("https://localhost:{port}/m.wasm");
    let output = run(&cli, &["run", &own], &[("HTTPS_PROXY", &variables)]).await;
    assert!(
        stderr(&output).contains("requests to such addresses are refused"),
        "{}",
        stderr(&output)
    );
}
