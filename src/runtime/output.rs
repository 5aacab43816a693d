//! Captures a guest's standard output and standard error.
//!
//! Each stream has a limit, and the guest is stopped when it writes more. Only the end of a stream
//! is kept. A tee and the log receive all writes.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::limits::{LimitGuard, Stop, Turn};
use super::module_output::LineLog;

/// Length of the end of a stream that is kept, in bytes. Argo keeps the same length of a
/// container's output.
const KEPT_BYTES: usize = 256 << 10;
/// Maximum length of one write, in bytes. A guest can make the host allocate as much.
const WRITE_BYTES: usize = 64 << 10;

/// Receives a copy of each write, in order, before the write returns to the guest.
pub type Tee = Box<dyn FnMut(&[u8]) + Send>;

/// Output of a guest on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// End of the output, at most 256 KiB.
    pub tail: Vec<u8>,
}

/// Standard output or standard error of a running guest. Clones write to the same stream.
#[derive(Clone)]
pub(super) struct Output {
    shared: Arc<Mutex<Shared>>,
    guard: Arc<LimitGuard>,
}

#[derive(Default)]
struct Shared {
    tail: VecDeque<u8>,
    /// Length of all writes together, in bytes.
    total: u64,
    tee: Option<Tee>,
    log: Option<LineLog>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(guard: Arc<LimitGuard>, tee: Option<Tee>, log: Option<LineLog>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                tee,
                log,
                ..Shared::default()
            })),
            guard,
        }
    }

    /// The end of the output. Call this when the guest has ended: the log gets the last line.
    pub(super) fn take(&self) -> Captured {
        let mut shared = self.shared.lock();
        shared.log = None;
        let tail = std::mem::take(&mut shared.tail);
        Captured { tail: tail.into() }
    }

    /// Writes a text that the host prints for the guest.
    pub(super) fn print(&self, text: &str) -> Result<(), Stop> {
        if text.is_empty() {
            return Ok(());
        }
        self.push(text.as_bytes())
    }

    fn push(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut shared = self.shared.lock();
        shared.total += bytes.len() as u64;
        if shared.total > self.guard.limits().output {
            return Err(self.guard.stop(Stop::Output));
        }
        if let Some(tee) = &mut shared.tee {
            tee(bytes);
        }
        if let Some(log) = &mut shared.log {
            log.write(bytes);
        }
        let keep = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let excess = (shared.tail.len() + keep.len()).saturating_sub(KEPT_BYTES);
        shared.tail.drain(..excess);
        shared.tail.extend(keep);
        Ok(())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

/// For WASI 0.1 and 0.2. The stream is always ready. A write beyond the limit traps.
#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes)
            .map_err(|stop| StreamError::Trap(stop.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// For WASI 0.3. A write beyond a limit fails, and the guest is stopped when the call returns.
///
/// The host may copy a stream to the output without the guest. So each write is a point at which
/// the step can end, and a long buffer is written in parts.
impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.guard.turn() {
            Ok(Turn::Continue) => {}
            Ok(Turn::Yield) => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Err(stop) => return Poll::Ready(Err(std::io::Error::other(stop))),
        }
        let part = &bytes[..bytes.len().min(WRITE_BYTES)];
        Poll::Ready(
            self.push(part)
                .map(|()| part.len())
                .map_err(std::io::Error::other),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
