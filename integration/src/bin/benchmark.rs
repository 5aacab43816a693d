//! Measures the performance budgets of the executor. The baseline is a plain axum route that parses
//! and echoes the same JSON.
//!
//! `integration/benchmark` builds everything optimised, and starts this program. Most figures are
//! ratios, because machines differ. Requests to both servers alternate in small rounds, so that
//! noise of the machine affects both servers equally.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "an unexpected value ends the benchmark, and its result is printed"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use sources::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wasm_workflow_executor::runtime::{
    self, Class, CompileRequest, CompiledModule, Compiler, CompilerSettings, Ending, GuestLimits,
    Invocation, Retain, Run,
};
use wasm_workflow_executor::step::CompileLimits;
use wasm_workflow_integration::executor::{Executor, Options, request, template};
use wasm_workflow_integration::guests;

const ROUNDS: usize = 60;
const REQUESTS: usize = 50;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("echo") {
        return echo();
    }
    let tmpfs = Path::new("/dev/shm");
    let scratch = tempfile::tempdir_in(if tmpfs.is_dir() {
        tmpfs
    } else {
        Path::new("/tmp")
    })
    .unwrap();
    // The executor paces results by the agent's patch interval. The benchmark takes more results
    // than an agent would, so it sets a very short interval.
    let config =
        json!({"sources": {"fileRoot": guests::directory()}, "agent": {"patchRate": "1ms"}});
    let options = Options {
        config: Some(config.to_string()),
        scratch: Some(scratch.path().to_owned()),
        flags: vec![
            "--log-level".into(),
            "warn,wasm_workflow_executor::app=info".into(),
        ],
        ..Options::default()
    };
    let executor = Executor::start_with(options);
    let echo = Echo::start();
    let target = executor.url.strip_prefix("http://").unwrap().to_owned();
    let token = executor.token.clone();

    latency(&echo.address, &target, &token);
    steps_per_second(&echo.address, &target, &token);
    drop((executor, echo));

    println!("instantiate and run, in process, p50                          budget");
    let empty = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)
        .unwrap();
    in_process("core module", &empty, "<= 5 µs");
    in_process(
        "component of the step world",
        &std::fs::read(guests::guest("noop-step")).unwrap(),
        "<= 30 µs",
    );
    cold();
    restart();
    idle();
}

/// Measures the latency of warm steps, one at a time. `echo` and `target` are the addresses of both
/// servers.
fn latency(echo: &str, target: &str, token: &str) {
    println!("warm steps, concurrency 1, p50          echo       step     ratio   budget");
    for (name, guest, budget) in [
        ("component world", "noop-step", 2.0),
        ("/work, tmpfs", "noop-work", 4.0),
    ] {
        let body = request(&template(guest)).to_string();
        let mut echoed = Connection::open(echo, &body, "");
        let mut stepped = Connection::open(target, &body, token);
        for _ in 0..200 {
            echoed.call();
            stepped.call();
        }
        let mut echo_times = Vec::new();
        let mut step_times = Vec::new();
        for _ in 0..ROUNDS {
            echo_times.extend((0..REQUESTS).map(|_| echoed.call()));
            step_times.extend((0..REQUESTS).map(|_| stepped.call()));
        }
        let echo_time = median(&mut echo_times);
        let step_time = median(&mut step_times);
        let ratio = step_time.as_secs_f64() / echo_time.as_secs_f64();
        println!("  {name:<34} {echo_time:>9.1?} {step_time:>9.1?} {ratio:>8.2}x   <= {budget}x");
    }
}

/// Measures the throughput of warm steps, 16 at a time. `echo` and `target` are the addresses of
/// both servers.
fn steps_per_second(echo: &str, target: &str, token: &str) {
    println!("warm steps a second, 16 at a time       echo       step     ratio   budget");
    for (name, guest, budget) in [
        ("component world", "noop-step", 40),
        ("/work, tmpfs", "noop-work", 15),
    ] {
        let body = request(&template(guest)).to_string();
        let mut echo_rate = 0.0;
        let mut step_rate = 0.0;
        for _ in 0..4 {
            echo_rate += throughput(echo, &body, "") / 4.0;
            step_rate += throughput(target, &body, token) / 4.0;
        }
        let percent = 100.0 * step_rate / echo_rate;
        println!("  {name:<34} {echo_rate:>8.0} {step_rate:>10.0} {percent:>8.0}%   >= {budget}%");
    }
}

/// Measures the time from the start of a process until it listens, and its resident memory when
/// idle.
fn idle() {
    let mut times = Vec::new();
    let mut resident = 0;
    for _ in 0..9 {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{}", wasm_workflow_integration::free_port());
        let mut command = Command::new(wasm_workflow_integration::executor::program());
        command.args([
            "serve",
            "--no-token",
            "--log-level",
            "off",
            "--bind",
            &address,
            "--admin-bind",
            "127.0.0.1:0",
        ]);
        command
            .arg("--cache-dir")
            .arg(directory.path())
            .arg("--scratch-dir")
            .arg(directory.path());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        while TcpStream::connect(&address).is_err() {
            std::thread::sleep(Duration::from_micros(100));
        }
        times.push(started.elapsed());
        std::thread::sleep(Duration::from_millis(500));
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        resident = resident.max(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    println!(
        "listening after the start, p50          {:>9.1?} {:>31}",
        median(&mut times),
        "<= 50 ms"
    );
    println!(
        "resident when idle, the most of nine    {:>6} MB {:>31}",
        resident * 1024 / 1_000_000,
        "<= 30 MB"
    );
}

/// Serves the baseline: a route that parses and echoes JSON.
fn echo() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let route =
            axum::routing::post(async |axum::Json(body): axum::Json<Value>| axum::Json(body));
        let router = axum::Router::new().route("/api/v1/template.execute", route);
        let listener =
            axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.unwrap();
    });
}

struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("echo")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            child,
            address: address.trim().to_owned(),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection that is kept open, and one request that is sent repeatedly. It uses a plain
/// socket, because an HTTP client would take more time than the servers.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    fn open(address: &str, body: &str, token: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "POST /api/v1/template.execute HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            stream,
            request: request.into_bytes(),
            answer: vec![0; 1 << 16],
        }
    }

    /// Sends the request until a step has ended, and returns the time. The program answers
    /// `requeue` when a step waits for long beside others.
    fn call(&mut self) -> Duration {
        let started = Instant::now();
        while self.exchange().contains("requeue") {}
        started.elapsed()
    }

    /// Sends the request once, and returns the body of the answer.
    fn exchange(&mut self) -> &str {
        self.stream.write_all(&self.request).unwrap();
        let mut length = 0;
        loop {
            length += self.stream.read(&mut self.answer[length..]).unwrap();
            let text = std::str::from_utf8(&self.answer[..length]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let announced = head
                .split("content-length: ")
                .nth(1)
                .unwrap()
                .split("\r\n")
                .next()
                .unwrap();
            if body.len() == announced.parse::<usize>().unwrap() {
                let failed = body.contains("\"Error\"") || body.contains("Failed");
                assert!(head.starts_with("HTTP/1.1 200") && !failed, "{text}");
                break;
            }
        }
        let answer = std::str::from_utf8(&self.answer[..length]).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1
    }
}

fn throughput(address: &str, body: &str, token: &str) -> f64 {
    const EACH: u32 = 400;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut connection = Connection::open(address, body, token);
                for _ in 0..EACH {
                    connection.call();
                }
            });
        }
    });
    (16.0 * f64::from(EACH)) / started.elapsed().as_secs_f64()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn limits() -> GuestLimits {
    let large = 1 << 30;
    GuestLimits {
        memory: large,
        time: Duration::from_mins(10),
        output: large,
        disk: large,
        entries: large,
        min_free_disk: 0,
        outcome: 1 << 20,
    }
}

fn invocation() -> Invocation {
    Invocation {
        workflow_name: String::new(),
        workflow_namespace: String::new(),
        workflow_uid: String::new(),
        template: String::new(),
        parameters: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        options: "{}".into(),
    }
}

fn run(
    runtime: &tokio::runtime::Runtime,
    compiler: &Compiler,
    module: &CompiledModule,
    args: &[String],
) -> Duration {
    let started = Instant::now();
    let run = Run {
        args,
        env: &[],
        stdin: bytes::Bytes::new(),
        directory: None,
        limits: limits(),
        deadline: None,
        cancel: CancellationToken::new(),
        invocation: &invocation,
        stdout: None,
        stderr: None,
        log: None,
    };
    let report = runtime
        .block_on(runtime::run(compiler.engines(), module, run))
        .unwrap();
    assert!(
        matches!(report.ending, Ending::Exited(0) | Ending::Returned(_)),
        "{report:?}"
    );
    started.elapsed()
}

/// The limits are so high that no module of the benchmark reaches them.
fn compile_request() -> CompileRequest {
    let class = Class {
        tenant: None,
        template: 0,
    };
    CompileRequest {
        classes: watch::channel(vec![class]).1,
        limits: CompileLimits {
            time: Duration::from_mins(10),
            memory: 1 << 30,
        },
        retain: Retain::OnDisk,
    }
}

/// A compiler whose workers are processes of the measured program.
fn compiler(code_directory: Option<&Path>) -> Arc<Compiler> {
    let compiler = Compiler::new(CompilerSettings {
        steps: 16,
        code_directory: code_directory.map(Path::to_owned),
        program: wasm_workflow_integration::executor::program(),
        memory: 2 << 30,
    });
    Arc::new(compiler.unwrap())
}

fn in_process(name: &str, bytes: &[u8], budget: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let compiler = compiler(None);
    let bytes = Bytes::from(bytes.to_vec());
    let compiling = compiler.compile("sha256:bench", &bytes, compile_request());
    let module = runtime.block_on(compiling).unwrap();
    for _ in 0..1000 {
        run(&runtime, &compiler, &module, &[]);
    }
    let mut times: Vec<Duration> = (0..20_000)
        .map(|_| run(&runtime, &compiler, &module, &[]))
        .collect();
    println!("  {name:<34} {:>9.1?} {:>31}", median(&mut times), budget);
}

/// A directory that only this user may use.
fn code_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory.path(), private).unwrap();
    directory
}

/// Compiles a module in a worker, and returns the time.
fn compile_into(code: &tempfile::TempDir, bytes: Vec<u8>) -> Duration {
    let digest = Digest::of(&bytes).to_string();
    let compiler = compiler(Some(code.path()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let started = Instant::now();
    let bytes = Bytes::from(bytes);
    let compiling = compiler.compile(&digest, &bytes, compile_request());
    runtime.block_on(compiling).unwrap();
    started.elapsed()
}

/// Compares a compile worker with `wasmtime compile`: with equal settings, and without the checks
/// that interrupt a guest. These checks cost a sixth to a quarter of the time.
fn cold() {
    println!("compile                              wasmtime     worker     ratio   budget");
    for module in [guests::guest("word-count"), guests::program("python.wasm")] {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..5 {
            times[0].push(wasmtime_compile(&module, &["-W", "epoch-interruption=y"]));
            times[1].push(wasmtime_compile(&module, &[]));
            times[2].push(compile_into(
                &code_directory(),
                std::fs::read(&module).unwrap(),
            ));
        }
        let [with, without, worker] = times.each_mut().map(|times| median(times));
        let name = module.file_stem().unwrap().to_string_lossy();
        for (settings, time) in [("", with), (", without checks", without)] {
            let name = format!("{name}{settings}");
            let ratio = worker.as_secs_f64() / time.as_secs_f64();
            println!("  {name:<34} {time:>9.1?} {worker:>10.1?} {ratio:>8.2}x   <= 1.10x");
        }
    }
}

/// Time of `wasmtime compile` with these flags.
fn wasmtime_compile(module: &Path, flags: &[&str]) -> Duration {
    let code = code_directory();
    let mut command = Command::new(guests::program("wasmtime"));
    command.args(["compile", "-o"]).arg(code.path().join("c"));
    let started = Instant::now();
    assert!(command.args(flags).arg(module).status().unwrap().success());
    started.elapsed()
}

/// Measures the first step of a new process. An earlier process has compiled its 26 MB module.
fn restart() {
    let bytes = std::fs::read(guests::program("python.wasm")).unwrap();
    let digest = Digest::of(&bytes).to_string();
    let code = code_directory();
    compile_into(&code, bytes);
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let compiler = compiler(Some(code.path()));
            let started = Instant::now();
            let loaded = compiler.load(&digest, u64::MAX).expect("a limit");
            let module = loaded.expect("kept code");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            run(
                &runtime,
                &compiler,
                &module,
                &["python".to_owned(), "--version".to_owned()],
            );
            started.elapsed()
        })
        .collect();
    println!(
        "first step after a restart, 26 MB, p50  {:>9.1?} {:>31}",
        median(&mut times),
        "<= 50 ms"
    );
}
