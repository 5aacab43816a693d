//! The program under test, as a process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guests;

/// The built program: the test command builds it before the tests.
pub fn program() -> PathBuf {
    // Tests are in `target/<profile>/deps`, the program is one level up.
    let test = std::env::current_exe().expect("the test's own path");
    let directory = test
        .ancestors()
        .find(|path| path.join("wasm-workflow-executor").is_file());
    directory
        .expect("the program is not built: cargo build")
        .join("wasm-workflow-executor")
}

/// A running `serve`. Killed when dropped.
#[derive(Debug)]
pub struct Executor {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// The bearer token it wants.
    pub token: String,
    log: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
    client: reqwest::Client,
    options: Options,
}

/// Starts the program, and waits until it says where it listens.
fn spawn(
    directory: &Path,
    options: &Options,
    bind: &str,
    log: &Arc<Mutex<Vec<String>>>,
) -> (Child, String) {
    let at = |name: &str| directory.join(name);
    let config = options
        .config
        .clone()
        .unwrap_or_else(|| default_config(&at("artifacts")));
    let mut command = match options.wrapper.split_first() {
        Some((wrapper, arguments)) => {
            let mut command = Command::new(wrapper);
            command.args(arguments).arg(program());
            command
        }
        None => Command::new(program()),
    };
    let mut child = command
        .args(["serve", "--bind", bind, "--token-file"])
        .arg(at("token"))
        .arg("--cache-dir")
        .arg(options.cache.clone().unwrap_or_else(|| at("cache")))
        .arg("--scratch-dir")
        .arg(options.scratch.clone().unwrap_or_else(|| at("scratch")))
        .args(&options.flags)
        .env("WASM_WORKFLOW_CONFIG", config)
        .env_remove("RUST_LOG")
        .env_remove("DOCKER_AUTH_CONFIG")
        .envs(options.env.clone())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("the program starts");
    let (found, address) = mpsc::channel();
    let (lines, stderr) = (
        Arc::clone(log),
        child.stderr.take().expect("its standard error"),
    );
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("address=") {
                let _ = found.send(
                    rest.split_whitespace()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
            lines.lock().expect("the log").push(line);
        }
    });
    let Ok(address) = address.recv_timeout(Duration::from_secs(20)) else {
        let _ = child.kill();
        panic!("it does not listen: {:?}", log.lock().expect("the log"));
    };
    (child, address)
}

/// How to start it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Flags after the harness's own.
    pub flags: Vec<String>,
    /// The configuration document; the harness adds nothing to it.
    pub config: Option<String>,
    /// Where step directories are made; below the harness's own directory when not given.
    pub scratch: Option<PathBuf>,
    /// Where fetched modules are kept; below the harness's own directory when not given.
    pub cache: Option<PathBuf>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// What to start it with: a program and its arguments, in front of its own.
    pub wrapper: Vec<String>,
}

impl Executor {
    /// Starts it with modules from `modules/target/wasm` allowed as files, and an artifact repository in a directory.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts it.
    pub fn start_with(options: Options) -> Self {
        let directory = TempDir::new().expect("a directory");
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        // Argo's own file has no newline; people's often have.
        std::fs::write(directory.path().join("token"), format!("{token}\n")).expect("a token file");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (child, address) = spawn(directory.path(), &options, "127.0.0.1:0", &log);
        let client = crate::http();
        Self {
            child,
            url: format!("http://{address}"),
            token,
            log,
            directory,
            client,
            options,
        }
    }

    /// Kills it, and starts another in its place, at the same address and with the same directories.
    pub fn replace(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.start_again();
    }

    /// The same after its end, at which it is still asked to.
    pub fn start_again(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        (self.child, _) = spawn(self.directory.path(), &self.options, &address, &self.log);
    }

    /// Kilobytes of its memory that are resident.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("its status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("its memory");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("kilobytes")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// Number of steps that ran so far, counted by their lines in the log. A step with an invalid
    /// template did not run. Steps of earlier processes of this executor are included.
    pub fn steps_run(&self) -> usize {
        self.log().matches("pipeline: step ").count()
    }

    /// Its own directory, with `cache`, `scratch` and `artifacts`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a raw body, and returns status and text.
    pub async fn post(&self, body: impl Into<reqwest::Body>, token: &str) -> (u16, String) {
        let request = self
            .client
            .post(format!("{}/api/v1/template.execute", self.url))
            .bearer_auth(token)
            .body(body);
        let response = request
            .header("content-type", "application/json")
            .send()
            .await
            .expect("an answer");
        (
            response.status().as_u16(),
            response.text().await.expect("a body"),
        )
    }

    /// Runs a template as the agent would, and returns the last reply.
    pub async fn execute(&self, template: &Value) -> Value {
        loop {
            let (status, text) = self.post(request(template).to_string(), &self.token).await;
            assert_eq!(status, 200, "{text}");
            let reply: Value = serde_json::from_str(&text).expect("JSON");
            let Some(requeue) = reply["requeue"].as_str() else {
                return reply;
            };
            let seconds = requeue
                .strip_suffix('s')
                .and_then(|seconds| seconds.parse().ok())
                .expect("seconds");
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// The same, when it must be ours: the node.
    pub async fn node(&self, template: &Value) -> Value {
        let mut reply = self.execute(template).await;
        assert!(reply["node"].is_object(), "{reply}");
        reply["node"].take()
    }

    /// `GET path`
    pub async fn get(&self, path: &str) -> u16 {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// Sends SIGTERM and waits. Returns the exit code and how long it took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        let started = std::time::Instant::now();
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .expect("kill");
        assert!(status.success());
        let code = self.child.wait().expect("it ends").code();
        (code, started.elapsed())
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Modules from the guests' directory, artifacts in `artifacts`.
pub fn default_config(artifacts: &Path) -> String {
    json!({
        "sources": {"files": guests::directory()},
        "artifacts": {"repository": {"directory": {"path": artifacts}}},
    })
    .to_string()
}

/// What the agent posts for a template.
pub fn request(template: &Value) -> Value {
    json!({
        "workflow": {"metadata": {"name": "wf", "namespace": "argo", "uid": "5d3c7f6e-0000-4000-8000-000000000001"}},
        "template": template,
    })
}

/// A template that runs a guest of `modules/`.
pub fn template(guest: &str) -> Value {
    let module = format!("file://{}", guests::guest(guest).display());
    json!({"name": guest, "inputs": {}, "outputs": {}, "metadata": {}, "plugin": {"wasm": {"module": module}}})
}
