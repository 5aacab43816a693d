//! One compile worker, as the executor sees it.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::COMMAND;
use super::protocol::{Job, MAX_LINE, Reply};
use crate::runtime::compile_error::Refusal;
use crate::runtime::module_source::ReadError;
use crate::sandbox::{self, Ending};

/// Size of the buffer for machine code, in bytes. A pipe of Linux has this size by default.
const BUFFER: usize = 64 << 10;
/// Maximum length of a worker's messages that is kept, in bytes.
const MAX_MESSAGES: u64 = 4 << 10;
/// wasmtime's panic contains this if it cannot handle a lack of memory.
const OUT_OF_MEMORY: &str = "unhandled out-of-memory error";
/// Ticks per second in `proc_pid_stat(5)`: `USER_HZ`, which is 100 on all architectures that this
/// program supports.
const TICKS_PER_SECOND: u64 = 100;

/// The reason why a worker returned no machine code.
#[derive(Debug)]
pub(in crate::runtime) enum Failure {
    /// The module cannot be compiled.
    Refused(Refusal),
    /// The compiler reported an error for a valid module. The cause may be a lack of memory.
    Compiler(Refusal),
    /// The compiler crashed while it compiled the module. The text says how. The cause may be a
    /// lack of memory.
    Crashed(String),
    /// The worker reached its time limit.
    Time,
    /// The worker reached its time limit, but this machine gave it little processor time.
    Starved {
        /// Processor time of all attempts.
        processor: Duration,
    },
    /// The worker reached its memory limit.
    Memory,
    /// The machine code is larger than `most` bytes, and can only be kept in memory.
    CodeTooLarge {
        /// The maximum, in bytes.
        most: u64,
    },
    /// The worker ended in another way. The text says how.
    Ended(String),
    /// The bytes of the module could not be read within the time limit.
    SlowRead,
    /// The bytes of the module could not be read.
    Unreadable(ReadError),
    /// The worker could not be started, or its code could not be stored.
    Io(io::Error),
}

impl Failure {
    /// Whether another attempt with more memory may succeed. A library may handle a lack of memory
    /// with an error, a panic or a crash.
    pub(super) fn may_be_a_lack_of_memory(&self) -> bool {
        matches!(self, Self::Memory | Self::Compiler(_) | Self::Crashed(_))
    }
}

/// A worker for one module.
pub(super) struct Worker<Admitted> {
    /// The file of this program.
    pub(super) program: PathBuf,
    pub(super) job: Job,
    pub(super) module: Bytes,
    /// The worker is killed after this time.
    pub(super) time: Duration,
    /// The machine code is written to this file.
    pub(super) code: File,
    /// The right to run a worker with this memory. It is dropped after the worker has ended.
    pub(super) admitted: Admitted,
}

/// The end of a worker.
pub(super) struct Ended {
    pub(super) result: Result<(), Failure>,
    pub(super) used: Used,
}

/// The time that the workers of a module used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Time from the start of the worker to its end.
    pub(super) time: Duration,
    /// Processor time of all threads of the worker.
    pub(super) processor: Duration,
}

impl<Admitted: Send + 'static> Worker<Admitted> {
    /// Runs the worker. The worker is killed when it reaches the time limit, and when the future is
    /// dropped.
    ///
    /// A separate task owns the process. If the future is dropped, the task kills the process and
    /// waits for its end. Only then are other workers admitted.
    pub(super) async fn run(self) -> Ended {
        let cancelled = CancellationToken::new();
        let _cancel_when_dropped = cancelled.clone().drop_guard();
        let task = tokio::spawn(self.run_until(cancelled).in_current_span());
        task.await
            .unwrap_or_else(|error| Ended::not_started(io::Error::other(error)))
    }

    async fn run_until(mut self, cancelled: CancellationToken) -> Ended {
        let started = Instant::now();
        let job = self.job;
        let mut worker = match sandbox::start(&self.program, COMMAND) {
            Ok(worker) => worker,
            Err(error) => return Ended::not_started(error),
        };
        let answered = tokio::select! {
            answered = talk(&mut worker, job, self.module, &mut self.code) => Some(answered),
            () = tokio::time::sleep(self.time) => None,
            () = cancelled.cancelled() => None,
        };
        let processor = match &answered {
            Some(answered) => answered.processor,
            None => processor_time(&worker),
        };
        // The memory of the worker is free only when the worker has ended.
        let killed = worker.kill().await;
        drop(self.admitted);
        let result = answered.map_or(Err(Failure::Time), |answered| answered.result(&job));
        Ended {
            result: result.and(killed.map_err(Failure::Io)),
            used: Used {
                time: started.elapsed(),
                processor,
            },
        }
    }
}

impl Ended {
    fn not_started(error: io::Error) -> Self {
        Self {
            result: Err(Failure::Io(error)),
            used: Used::default(),
        }
    }
}

/// The processor time that a worker has used until now. Zero if it is unknown.
fn processor_time(worker: &Child) -> Duration {
    let stat = worker
        .id()
        .and_then(|id| std::fs::read_to_string(format!("/proc/{id}/stat")).ok());
    stat.and_then(|stat| processor_time_in(&stat))
        .unwrap_or_default()
}

/// The sum of `utime` and `stime` in the text of `proc_pid_stat(5)`.
fn processor_time_in(stat: &str) -> Option<Duration> {
    // The second field, the name of the program, can contain spaces and parentheses.
    let (_, from_third) = stat.rsplit_once(") ")?;
    let mut times = from_third.split(' ').skip(14 - 3);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    let ticks = user.saturating_add(system);
    Some(Duration::from_millis(
        ticks.saturating_mul(1000 / TICKS_PER_SECOND),
    ))
}

/// Everything that a worker did.
struct Answered {
    reply: io::Result<Option<Reply>>,
    messages: String,
    processor: Duration,
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
    // The worker has closed its ends of the pipes. Closing standard input lets the worker end.
    drop(stdin);
    Answered {
        reply,
        messages,
        // The kernel forgets the time of a process when its parent has waited for it.
        processor: processor_time(worker),
        status: worker.wait().await,
    }
}

/// Writes the job and the module. Returns the pipe, which must stay open. `None` if the worker
/// stopped reading. The reason is then in the worker's reply, or in its messages.
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
    fn result(self, job: &Job) -> Result<(), Failure> {
        // If its code cannot be stored, the worker fails, too: its pipe is closed.
        let reply = self.reply.map_err(Failure::Io)?;
        let status = self.status.map_err(Failure::Io)?;
        if !status.success() {
            return Err(failure(status, &self.messages));
        }
        match reply {
            Some(Reply::Compiled { .. }) => Ok(()),
            Some(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
            Some(Reply::CompilerError(refusal)) => Err(Failure::Compiler(refusal)),
            Some(Reply::OutOfMemory) => Err(Failure::Memory),
            Some(Reply::CodeTooLarge) if job.max_code_bytes >= job.limits.memory => {
                Err(Failure::Memory)
            }
            Some(Reply::CodeTooLarge) => Err(Failure::CodeTooLarge {
                most: job.max_code_bytes,
            }),
            None => Err(Failure::Ended("it ended without a reply".to_owned())),
        }
    }
}

/// The failure of a worker that ended before its work was done.
fn failure(status: ExitStatus, messages: &str) -> Failure {
    tracing::debug!(%status, messages, "a compile worker ended early");
    match Ending::of(status, messages) {
        Ending::Memory => Failure::Memory,
        Ending::Panicked(_) if messages.contains(OUT_OF_MEMORY) => Failure::Memory,
        Ending::ProcessorTime => Failure::Time,
        Ending::StackOverflow => Failure::Refused(Refusal::too_deep()),
        Ending::Panicked(how) | Ending::Crashed(how) => Failure::Crashed(how),
        // If memory is short, the kernel kills the worker before the executor, unless
        // `memory.oom.group` is set. The module need not be the cause.
        Ending::Killed => Failure::Ended(
            "the system killed it, probably because the container has too little memory".to_owned(),
        ),
        Ending::Other(how) => Failure::Ended(how),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_crash_of_the_compiler_differs_from_a_worker_that_others_ended() {
        let killed_by = |signal| failure(ExitStatus::from_raw(signal), "");
        let panicked = |why| failure(ExitStatus::from_raw(101 << 8), why);
        assert!(matches!(killed_by(libc::SIGSEGV), Failure::Crashed(_)));
        assert!(matches!(
            panicked("index out of bounds"),
            Failure::Crashed(_)
        ));
        let panic =
            "thread 'main' panicked at types.rs:1:2:\nunhandled out-of-memory error: out of memory";
        assert!(matches!(panicked(panic), Failure::Memory));
        for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGHUP] {
            let failure = killed_by(signal);
            assert!(matches!(failure, Failure::Ended(_)), "{failure:?}");
        }
    }

    #[test]
    fn the_processor_time_is_the_sum_of_user_and_system_time_whatever_the_name_of_the_program() {
        let stat = "7 (a) R 9 (b) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20";
        assert_eq!(processor_time_in(stat), Some(Duration::from_millis(1750)));
        assert_eq!(processor_time_in("7 (a) S 1"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(processor_time_in(&own).is_some(), "{own}");
    }
}
