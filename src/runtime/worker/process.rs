//! One compile worker, as the executor sees it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::COMMAND;
use super::protocol::{Job, MAX_LINE, Reply};
use crate::runtime::compile_error::Refusal;
use crate::runtime::module_source::ReadError;

/// Size of the buffer for machine code, in bytes. A pipe of Linux has this size by default.
const BUFFER: usize = 64 << 10;
/// Maximum length of a worker's messages that is kept, in bytes.
const MAX_MESSAGES: u64 = 4 << 10;
/// Rust writes this when an allocation fails, and then aborts the process.
const ALLOCATION_FAILED: &str = "memory allocation of ";
/// Rust writes this when a stack overflows, and then aborts the process.
const STACK_OVERFLOW: &str = "has overflowed its stack";

/// The reason why a worker returned no machine code.
#[derive(Debug)]
pub(in crate::runtime) enum Failure {
    /// The module cannot be compiled.
    Refused(Refusal),
    /// The worker reached its time limit.
    Time,
    /// The worker reached its memory limit.
    Memory,
    /// The worker ended in another way. The text says how.
    Ended(String),
    /// The bytes of the module could not be read.
    Unreadable(ReadError),
    /// The worker could not be started, or its code could not be stored.
    Io(io::Error),
}

/// Compiles a module in a worker. Writes the machine code to `code`.
///
/// The worker is killed when it reaches the time limit, and when the future is dropped.
pub(super) async fn compile(
    program: &Path,
    job: Job,
    module: Bytes,
    time: Duration,
    mut code: File,
) -> Result<(), Failure> {
    let mut worker = start(program).map_err(Failure::Io)?;
    let answered = tokio::time::timeout(time, talk(&mut worker, job, module, &mut code)).await;
    let result = match answered {
        Ok(answered) => answered.result(),
        Err(_) => Err(Failure::Time),
    };
    // The memory of the worker is free only when the worker has ended.
    let killed = worker.kill().await;
    result.and(killed.map_err(Failure::Io))
}

fn start(program: &Path) -> io::Result<Child> {
    Command::new(program)
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Everything that a worker did.
struct Answered {
    reply: io::Result<Option<Reply>>,
    messages: String,
    status: io::Result<ExitStatus>,
}

/// Gives the worker its job, and waits until it has ended.
async fn talk(worker: &mut Child, job: Job, module: Bytes, code: &mut File) -> Answered {
    let stdin = worker.stdin.take();
    let stdout = worker.stdout.take();
    let stderr = worker.stderr.take();
    let (stdin, reply, messages) = tokio::join!(
        feed(stdin, job, module),
        receive(stdout, job.max_code_bytes, code),
        read_messages(stderr),
    );
    // The worker ends when this end of its pipe is closed. By now, it has closed its own ends.
    drop(stdin);
    Answered {
        reply,
        messages,
        status: worker.wait().await,
    }
}

/// Writes the job and the module. Returns the pipe, which must stay open. A worker that does not
/// read to the end says why in its reply, or in its messages.
async fn feed(stdin: Option<ChildStdin>, job: Job, module: Bytes) -> Option<ChildStdin> {
    let mut stdin = stdin?;
    let mut line = serde_json::to_vec(&job).unwrap_or_default();
    line.push(b'\n');
    stdin.write_all(&line).await.ok()?;
    stdin.write_all(&module).await.ok()?;
    Some(stdin)
}

/// Reads the reply, and copies the machine code. `None` if the worker wrote no reply.
async fn receive(
    stdout: Option<ChildStdout>,
    max_code: u64,
    code: &mut File,
) -> io::Result<Option<Reply>> {
    let Some(stdout) = stdout else {
        return Ok(None);
    };
    let mut stdout = BufReader::with_capacity(BUFFER, stdout);
    let mut line = Vec::new();
    (&mut stdout)
        .take(MAX_LINE)
        .read_until(b'\n', &mut line)
        .await?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    let reply: Reply = serde_json::from_slice(&line)?;
    if let Reply::Compiled { code_bytes } = reply {
        if code_bytes > max_code {
            return Err(io::Error::other(
                "the reply announces too much machine code",
            ));
        }
        let copied = tokio::io::copy_buf(&mut (&mut stdout).take(code_bytes), code).await?;
        code.flush().await?;
        if copied != code_bytes {
            return Ok(None);
        }
    }
    Ok(Some(reply))
}

/// Reads what the worker writes to standard error, until the worker ends.
async fn read_messages(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut messages = Vec::new();
    let _ = (&mut stderr)
        .take(MAX_MESSAGES)
        .read_to_end(&mut messages)
        .await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&messages).trim().to_owned()
}

impl Answered {
    fn result(self) -> Result<(), Failure> {
        let status = self.status.map_err(Failure::Io)?;
        if !status.success() {
            return Err(failure(status, &self.messages));
        }
        match self.reply.map_err(Failure::Io)? {
            Some(Reply::Compiled { .. }) => Ok(()),
            Some(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
            Some(Reply::OutOfMemory) => Err(Failure::Memory),
            None => Err(Failure::Ended("it ended without a reply".to_owned())),
        }
    }
}

/// The failure of a worker that ended before its work was done.
fn failure(status: ExitStatus, messages: &str) -> Failure {
    tracing::debug!(%status, messages, "a compile worker ended early");
    match status.signal() {
        Some(libc::SIGXCPU) => Failure::Time,
        // If memory is short, the kernel ends the worker before the executor. This says nothing
        // about the module.
        Some(libc::SIGKILL) => Failure::Ended(
            "the system killed it, probably because the container has too little memory".to_owned(),
        ),
        Some(libc::SIGABRT) if messages.contains(ALLOCATION_FAILED) => Failure::Memory,
        Some(libc::SIGABRT) if messages.contains(STACK_OVERFLOW) => {
            Failure::Refused(Refusal::too_deep())
        }
        Some(signal) => Failure::Ended(format!("signal {signal} ended it")),
        None => Failure::Ended(match messages.lines().find(|line| !line.is_empty()) {
            Some(first) => first.to_owned(),
            None => status.to_string(),
        }),
    }
}
