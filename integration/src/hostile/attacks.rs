//! All attacks, as a table.

use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::strangers::{BEGINNING, flood, headers};
use super::{bombs, commands, components, outcomes};
use crate::executor::{Executor, request};
use crate::guests;

/// Time for which an attack keeps its connections open.
const HELD: Duration = Duration::from_secs(3);

/// One attack.
#[derive(Debug)]
pub struct Attack {
    /// Name, with letters, digits and hyphens.
    pub name: &'static str,
    action: Action,
}

#[derive(Debug)]
enum Action {
    /// A step that runs a module, with these limits. It gets one argument.
    Step { module: Vec<u8>, limits: Value },
    /// A module that no step has compiled before.
    Compile { module: Vec<u8> },
    /// Connections that send these bytes, and are then kept open.
    Connections { number: usize, bytes: Vec<u8> },
    /// Connections that send the token, and are then kept open. The header with the token follows
    /// `head`.
    Callers {
        number: usize,
        head: String,
        body: Vec<u8>,
    },
    /// Calls with inputs of this many bytes. No call fetches the results.
    Calls { number: usize, bytes: usize },
}

impl Attack {
    /// Runs the attack once, with a module below `directory`. Returns how it ended.
    pub async fn run(&self, executor: &Executor, directory: &Path) -> String {
        match &self.action {
            Action::Step { module, limits } => {
                let path = directory.join(format!("{}.wasm", self.name));
                if !path.exists() {
                    write(&path, module);
                }
                ended(executor, &self.template(&path, limits)).await
            }
            Action::Compile { module } => {
                let number = next();
                let path = directory.join(format!("{}-{number}.wasm", self.name));
                write(&path, &renamed(module, number));
                let limits = json!({"compile": {"time": "5s"}});
                let ended = ended(executor, &self.template(&path, &limits)).await;
                let _ = std::fs::remove_file(path);
                ended
            }
            Action::Connections { number, bytes } => {
                hold(flood(&executor.url, *number, bytes.clone()).await).await
            }
            Action::Callers { number, head, body } => {
                let head = format!("{head}Authorization: Bearer {}\r\n\r\n", executor.token);
                let bytes = [head.as_bytes(), body].concat();
                hold(flood(&executor.url, *number, bytes).await).await
            }
            Action::Calls { number, bytes } => {
                let path = directory.join("short.wasm");
                if !path.exists() {
                    let short = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
                    write(&path, &wat::parse_str(short).expect("a module"));
                }
                for _ in 0..*number {
                    let mut template = self.template(&path, &json!({}));
                    let value = format!("{}{}", next(), "0".repeat(*bytes));
                    template["inputs"] = json!({"parameters": [{"name": "p", "value": value}]});
                    let call = request(&template).to_string();
                    // Beside other large bodies, the executor may close the connection.
                    let _ = executor.try_post(call, &executor.token).await;
                }
                format!("{number} calls")
            }
        }
    }

    fn template(&self, module: &Path, limits: &Value) -> Value {
        let module = format!("file://{}", module.display());
        // The parameter makes each step another execution.
        json!({
            "name": self.name,
            "inputs": {"parameters": [{"name": "number", "value": next().to_string()}]},
            "plugin": {"wasm": {"module": module, "limits": limits, "args": ["go"]}},
        })
    }
}

fn next() -> usize {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// Writes the file under another name first, so that no other attack reads a part of it.
fn write(path: &Path, bytes: &[u8]) {
    let part = path.with_extension(format!("part-{}", next()));
    std::fs::write(&part, bytes).expect("a module");
    std::fs::rename(part, path).expect("a module");
}

/// The same module or component with another digest: a custom section is added.
fn renamed(module: &[u8], number: usize) -> Vec<u8> {
    let content = format!("\u{1}n{number:08}");
    let length = u8::try_from(content.len()).expect("a short section");
    [module, &[0, length], content.as_bytes()].concat()
}

/// Runs the step, and returns its phase and the beginning of its message.
async fn ended(executor: &Executor, template: &Value) -> String {
    let reply = match executor.try_execute(template).await {
        Ok(reply) => reply,
        Err(error) => return format!("connection closed: {error}"),
    };
    let node = &reply["node"];
    let phase = node["phase"].as_str().unwrap_or_default();
    let message = node["message"].as_str().unwrap_or_default();
    // The message of a module that cannot be compiled begins with its reference.
    let message = message.split_once("`: ").map_or(message, |(_, rest)| rest);
    let message: String = message.chars().take(100).collect();
    format!("{phase}: {message}")
}

async fn hold(connections: Vec<TcpStream>) -> String {
    tokio::time::sleep(HELD).await;
    format!("{} connections", connections.len())
}

/// All attacks. The modules are made when this function is called, which takes some seconds.
pub fn all() -> Vec<Attack> {
    [compiling(), host_calls(), memory(), running(), callers()]
        .into_iter()
        .flatten()
        .collect()
}

fn compiling() -> Vec<Attack> {
    let bombs = bombs::of_memory().into_iter().chain(bombs::of_time());
    let attack = |bomb: bombs::Bomb| Attack {
        name: bomb.name,
        action: Action::Compile { module: bomb.bytes },
    };
    bombs.map(attack).collect()
}

/// A step that runs a module of WebAssembly text.
fn step(name: &'static str, text: &str, limits: Value) -> Attack {
    let module = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    Attack {
        name,
        action: Action::Step { module, limits },
    }
}

fn host_calls() -> Vec<Attack> {
    let one_second = || json!({"time": "1s", "memory": "256Mi"});
    let random = commands::straight_line(
        &commands::import("random_get", "i32 i32"),
        "",
        "(drop (call $call (i32.const 65536) (i32.const 67108864)))",
        400,
    );
    let writes: Vec<String> = (0..40_u64)
        .map(|number| {
            let offset = number * (100 << 20);
            format!(
                "(drop (call $call (i32.load (i32.const 32)) (i32.const 16) (i32.const 1)
                    (i64.const {offset}) (i32.const 40)))"
            )
        })
        .collect();
    let imports = [
        commands::IMPORT_OPEN,
        &commands::import("fd_pwrite", "i32 i32 i32 i64 i32"),
    ]
    .concat();
    let writes = commands::straight_line(&imports, commands::OPEN, &writes.concat(), 1);
    let fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 209715200))";
    let fill = commands::straight_line("", "", fill, 4000);
    vec![
        step("random-0-1", &random, one_second()),
        step("fills", &fill, one_second()),
        step(
            "random-0-2",
            &components::random("0.2.0", 1 << 20, 2000),
            one_second(),
        ),
        step(
            "random-0-3",
            &components::random("0.3.0", 1 << 20, 2000),
            one_second(),
        ),
        step(
            "clock-0-2",
            &components::clock("0.2.0", 300_000),
            json!({"time": "200ms"}),
        ),
        step(
            "file-that-grows",
            &components::file_that_grows(),
            json!({"disk": "64Mi", "time": "1s"}),
        ),
        step(
            "writes",
            &writes,
            json!({"disk": "16Mi", "time": "1s", "memory": "256Mi"}),
        ),
    ]
}

fn memory() -> Vec<Attack> {
    let limits = || json!({"memory": "32Mi", "time": "5s"});
    let outcome = |name, body| step(name, &components::step(500, body), limits());
    let many = "(table 100000 funcref)".repeat(99);
    let tables = format!(r#"(module (memory 1) {many} (func (export "_start")))"#);
    vec![
        outcome("overlapping-parameters", outcomes::OVERLAPPING_PARAMETERS),
        outcome("empty-parameters", outcomes::EMPTY_PARAMETERS),
        outcome("long-result", outcomes::LONG_RESULT),
        outcome("long-error", outcomes::LONG_ERROR),
        step("tables", &tables, limits()),
        step("resources", &components::resources(100_000), limits()),
        step("sleeps", &components::sleeps(100_000), limits()),
        step("streams", &components::streams(100_000), limits()),
        step(
            "waiting-calls",
            &components::waiting_calls(190),
            json!({"memory": "512Mi", "time": "5s"}),
        ),
    ]
}

/// Guests of `modules/`.
fn running() -> Vec<Attack> {
    [
        ("spin", json!({"time": "1s"})),
        ("sleep", json!({"time": "1s"})),
        ("memory-hog", json!({"memory": "64Mi"})),
        ("flood-stdout", json!({"output": "1Mi"})),
        ("fill-disk", json!({"disk": "8Mi", "time": "5s"})),
        ("open-files", json!({})),
        ("recurse", json!({})),
        ("trap", json!({})),
    ]
    .map(|(name, limits)| Attack {
        name,
        action: Action::Step {
            module: std::fs::read(guests::guest(name)).expect("a guest"),
            limits,
        },
    })
    .into()
}

fn callers() -> Vec<Attack> {
    let head = format!("{BEGINNING}{}", headers(95, 4000));
    vec![
        Attack {
            name: "unfinished-heads",
            action: Action::Connections {
                number: 1000,
                bytes: head.into_bytes(),
            },
        },
        Attack {
            name: "silent-connections",
            action: Action::Connections {
                number: 2000,
                bytes: Vec::new(),
            },
        },
        Attack {
            name: "unfinished-bodies",
            action: Action::Callers {
                number: 200,
                head: format!("{BEGINNING}Content-Length: 4000000\r\n"),
                body: vec![b' '; 2 << 20],
            },
        },
        Attack {
            name: "calls-without-an-end",
            action: Action::Calls {
                number: 100,
                bytes: 1 << 20,
            },
        },
    ]
}
