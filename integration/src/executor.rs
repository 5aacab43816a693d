//! Starts the program under test as a process, and calls its HTTP API.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::container::Container;
use crate::guests;

/// Path of the built program. `integration/test` builds the program before the tests.
pub fn program() -> PathBuf {
    // Test binaries are in `target/<profile>/deps`, and the program is one level up.
    let test = std::env::current_exe().expect("the test's own path");
    let directory = test
        .ancestors()
        .find(|path| path.join("wasm-workflow-executor").is_file());
    directory
        .expect("the program is not built: run cargo build")
        .join("wasm-workflow-executor")
}

/// A running `serve` process. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Executor {
    child: Child,
    /// URL of the agent's port: `http://127.0.0.1:PORT`.
    pub url: String,
    /// URL of the port for probes. Each process has another port.
    pub admin_url: String,
    /// Bearer token that the server requires.
    pub token: String,
    log: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
    caller: Caller,
    options: Options,
    container: Option<Container>,
}

/// A client of the agent's port. Each call of [`Executor::caller`] makes a client with its own
/// connections.
#[derive(Clone, Debug)]
pub struct Caller {
    url: String,
    token: String,
    client: reqwest::Client,
}

/// Answer of the server to one request.
#[derive(Clone, Debug)]
pub struct HttpReply {
    /// HTTP status code.
    pub status: u16,
    /// Text of the body.
    pub body: String,
}

/// How the program ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Exit code; `None` if a signal killed the process.
    pub code: Option<i32>,
    /// Time from the signal to the end of the process.
    pub took: Duration,
}

/// A started process, and the addresses on which it listens.
struct Started {
    child: Child,
    addresses: Addresses,
}

/// The addresses in the log line `listening`.
struct Addresses {
    agent: String,
    admin: String,
}

impl Addresses {
    /// Reads the addresses from a line of the log; `None` for any other line.
    fn of_line(line: &str) -> Option<Self> {
        if let Ok(line) = serde_json::from_str::<Value>(line) {
            return Some(Self {
                agent: line["address"].as_str().unwrap_or_default().to_owned(),
                admin: line["admin_address"].as_str()?.to_owned(),
            });
        }
        let after = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        Some(Self {
            // With `--cluster`, there is no port for the agent.
            agent: after(" address=").unwrap_or_default(),
            admin: after(" admin_address=")?,
        })
    }
}

/// Starts the program, and waits until the log names the addresses on which the program listens.
fn spawn(
    directory: &Path,
    options: &Options,
    bind: &str,
    log: &Arc<Mutex<Vec<String>>>,
) -> Started {
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
        .args(["serve", "--bind", bind])
        .args(["--admin-bind", "127.0.0.1:0", "--token-file"])
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
    let (found, addresses) = mpsc::channel();
    let lines = Arc::clone(log);
    let stderr = child.stderr.take().expect("the standard error stream");
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(addresses) = Addresses::of_line(&line) {
                let _ = found.send(addresses);
            }
            lines.lock().expect("the log").push(line);
        }
    });
    let Ok(addresses) = addresses.recv_timeout(Duration::from_secs(20)) else {
        let _ = child.kill();
        panic!(
            "the program does not listen: {:?}",
            log.lock().expect("the log")
        );
    };
    Started { child, addresses }
}

/// How to start the program.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Flags that follow the flags of the harness.
    pub flags: Vec<String>,
    /// Configuration document, used as it is. The default is [`default_config`].
    pub config: Option<String>,
    /// Scratch directory. The default is a directory of the harness.
    pub scratch: Option<PathBuf>,
    /// Cache directory. The default is a directory of the harness.
    pub cache: Option<PathBuf>,
    /// Environment variables: names and values.
    pub env: Vec<(String, String)>,
    /// Command that starts the program: a wrapper such as `unshare`, and its arguments.
    pub wrapper: Vec<String>,
    /// Memory limit of the container in which the program runs, in bytes. Without the permission to
    /// create control groups, there is no limit.
    pub memory: Option<u64>,
}

impl Options {
    /// The program runs in a container with 2 GiB of memory.
    pub fn in_container() -> Self {
        Self {
            memory: Some(2 << 30),
            ..Self::default()
        }
    }
}

impl Executor {
    /// Starts the program with this configuration and these flags.
    pub fn with_config(config: &Value, flags: Vec<String>) -> Self {
        Self::start_with(Options {
            config: Some(config.to_string()),
            flags,
            ..Options::default()
        })
    }

    /// Starts the program with [`default_config`].
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts the program with these options.
    pub fn start_with(mut options: Options) -> Self {
        let container = options.memory.and_then(Container::new);
        if let Some(container) = &container {
            options.wrapper = [container.wrapper(), options.wrapper].concat();
        }
        let directory = TempDir::new().expect("a directory");
        let token = "0123456789abcdef0123456789abcdef".to_owned();
        // Argo's token file has no newline at its end. A file written by a person often has one.
        std::fs::write(directory.path().join("token"), format!("{token}\n")).expect("a token file");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let Started { child, addresses } = spawn(directory.path(), &options, "127.0.0.1:0", &log);
        let url = format!("http://{}", addresses.agent);
        Self {
            child,
            admin_url: format!("http://{}", addresses.admin),
            caller: Caller::new(&url, &token),
            url,
            token,
            log,
            directory,
            options,
            container,
        }
    }

    /// The container in which the program runs.
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// Kills the process, and starts a new one with the same address and directories.
    pub fn kill_and_restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.restart();
    }

    /// Starts a new process with the same address and directories. The old process has ended.
    pub fn restart(&mut self) {
        let address = match self.url.trim_start_matches("http://") {
            "" => "127.0.0.1:0",
            address => address,
        };
        let started = spawn(self.directory.path(), &self.options, address, &self.log);
        self.child = started.child;
        self.admin_url = format!("http://{}", started.addresses.admin);
    }

    /// Resident memory of the process, in kilobytes.
    pub fn resident_kilobytes(&self) -> u64 {
        self.memory_kilobytes("VmRSS:")
    }

    /// Resident memory of the process without the pages of files, in kilobytes. The kernel can drop
    /// the pages of files, such as compiled code.
    pub fn anonymous_kilobytes(&self) -> u64 {
        self.memory_kilobytes("RssAnon:")
    }

    /// A line of `/proc/PID/status`, in kilobytes.
    fn memory_kilobytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .expect("the status of the process");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("the resident memory");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("kilobytes")
    }

    /// Text of the log so far. A reply may arrive earlier than the log lines about it.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// The lines of the log, which grow while the program runs.
    pub fn log_lines(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.log)
    }

    /// Number of steps that ran so far, counted by their lines in the log. A step with an invalid
    /// template did not run. Steps of earlier processes of this executor are included.
    pub fn steps_run(&self) -> usize {
        self.log().matches("pipeline: step ").count()
    }

    /// Directory of the harness, with `cache`, `scratch` and `artifacts`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Calls `template.execute` with a raw body.
    pub async fn post(&self, body: impl Into<reqwest::Body>, token: &str) -> HttpReply {
        self.try_post(body, token).await.expect("an answer")
    }

    /// Calls `template.execute` with a raw body. An error if the executor closes the connection.
    pub async fn try_post(
        &self,
        body: impl Into<reqwest::Body>,
        token: &str,
    ) -> reqwest::Result<HttpReply> {
        self.caller.try_post(body, token).await
    }

    /// A caller with connections of its own.
    pub fn caller(&self) -> Caller {
        Caller::new(&self.url, &self.token)
    }

    /// Runs a template: repeats the call as long as the reply asks for a requeue, like the agent.
    /// Returns the last reply.
    pub async fn execute(&self, template: &Value) -> Value {
        self.try_execute(template).await.expect("an answer")
    }

    /// Runs a template like [`execute`](Self::execute). An error if the executor closes the
    /// connection.
    pub async fn try_execute(&self, template: &Value) -> reqwest::Result<Value> {
        self.caller.try_execute(template).await
    }

    /// Runs a template of a workflow in this namespace, and returns the node of the last reply.
    pub async fn node_in(&self, namespace: &str, template: &Value) -> Value {
        let mut request = request(template);
        request["workflow"]["metadata"]["namespace"] = namespace.into();
        let mut reply = self.caller.repeat(&request).await.expect("an answer");
        reply["node"].take()
    }

    /// Runs a template like [`execute`](Self::execute), and returns the node of the last reply.
    pub async fn node(&self, template: &Value) -> Value {
        let mut reply = self.execute(template).await;
        assert!(reply["node"].is_object(), "{reply}");
        reply["node"].take()
    }

    /// Status code of the answer to `GET path` on the port for probes.
    pub async fn probe(&self, path: &str) -> u16 {
        self.caller
            .client
            .get(format!("{}{path}", self.admin_url))
            .send()
            .await
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// Waits for the end of the process, and returns its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the process ends").code()
    }

    /// Sends SIGTERM, and waits for the end of the process.
    pub fn terminate(&mut self) -> Exit {
        let started = std::time::Instant::now();
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .expect("kill");
        assert!(status.success());
        let code = self.child.wait().expect("the process ends").code();
        Exit {
            code,
            took: started.elapsed(),
        }
    }
}

impl Caller {
    fn new(url: &str, token: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            client: crate::http(),
        }
    }

    /// Runs a template like [`Executor::execute`]. An error if the executor closes the connection.
    pub async fn try_execute(&self, template: &Value) -> reqwest::Result<Value> {
        self.repeat(&request(template)).await
    }

    /// Calls `template.execute` with a raw body. An error if the executor closes the connection.
    async fn try_post(
        &self,
        body: impl Into<reqwest::Body>,
        token: &str,
    ) -> reqwest::Result<HttpReply> {
        let request = self
            .client
            .post(format!("{}/api/v1/template.execute", self.url))
            .bearer_auth(token)
            .body(body);
        let response = request
            .header("content-type", "application/json")
            .send()
            .await?;
        Ok(HttpReply {
            status: response.status().as_u16(),
            body: response.text().await?,
        })
    }

    /// Repeats a call as long as the reply asks for a requeue.
    async fn repeat(&self, request: &Value) -> reqwest::Result<Value> {
        loop {
            let HttpReply { status, body } =
                self.try_post(request.to_string(), &self.token).await?;
            assert_eq!(status, 200, "{body}");
            let reply: Value = serde_json::from_str(&body).expect("JSON");
            let Some(requeue) = reply["requeue"].as_str() else {
                return Ok(reply);
            };
            let seconds = requeue
                .strip_suffix('s')
                .and_then(|seconds| seconds.parse().ok())
                .expect("seconds");
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Configuration that allows modules from the directory of the guests as files. The artifact
/// repository is the directory `artifacts`.
pub fn default_config(artifacts: &Path) -> String {
    json!({
        "sources": {"fileRoot": guests::directory()},
        "artifacts": {"repository": {"directory": {"path": artifacts}}},
    })
    .to_string()
}

/// Body that the agent posts for a template.
///
/// The `result` of the template is `text` unless the template names another form, because tests
/// look at the output of modules.
pub fn request(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(wasm) = template
        .pointer_mut("/plugin/wasm")
        .and_then(Value::as_object_mut)
    {
        wasm.entry("result").or_insert_with(|| json!("text"));
    }
    json!({
        "workflow": {"metadata": {"name": "wf", "namespace": "argo", "uid": "5d3c7f6e-0000-4000-8000-000000000001"}},
        "template": template,
    })
}

/// Template that runs a guest of `modules/`.
pub fn template(guest: &str) -> Value {
    let module = format!("file://{}", guests::guest(guest).display());
    json!({"name": guest, "inputs": {}, "outputs": {}, "metadata": {}, "plugin": {"wasm": {"module": module}}})
}
