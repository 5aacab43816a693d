//! What a guest writes to standard output and standard error: counted, bounded, and the end of it kept.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::limits::{Stop, Watch};

/// The last bytes that are kept of a stream: as much as Argo keeps of a container's.
const KEPT_BYTES: usize = 256 << 10;
/// What one write may carry: it is also what a guest can make the host allocate.
const WRITE_BYTES: usize = 64 << 10;

/// Gets a copy of every write, as it happens.
pub type Tee = Box<dyn FnMut(&[u8]) + Send>;

/// What a guest wrote to one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// The end of it, at most 256 KiB.
    pub tail: Vec<u8>,
    /// How many bytes it was altogether.
    pub total: u64,
}

/// One stream while the guest runs.
#[derive(Clone)]
pub(super) struct Output {
    shared: Arc<Mutex<Shared>>,
    watch: Arc<Watch>,
}

#[derive(Default)]
struct Shared {
    tail: VecDeque<u8>,
    total: u64,
    tee: Option<Tee>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    pub(super) fn new(watch: Arc<Watch>, tee: Option<Tee>) -> Self {
        Self {
            shared: Arc::new(Mutex::new(Shared {
                tee,
                ..Shared::default()
            })),
            watch,
        }
    }

    pub(super) fn take(&self) -> Captured {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Captured {
            tail: std::mem::take(&mut shared.tail).into(),
            total: shared.total,
        }
    }

    fn push(&self, bytes: &[u8]) -> Result<(), Stop> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.total += bytes.len() as u64;
        if shared.total > self.watch.limits().output {
            return Err(self.watch.stop(Stop::Output));
        }
        if let Some(tee) = &mut shared.tee {
            tee(bytes);
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

/// For WASI 0.1 and 0.2: always ready, and a trap beyond the limit.
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

/// For WASI 0.3: an error beyond the limit; the next tick ends the guest.
impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Poll::Ready(
            self.push(bytes)
                .map(|()| bytes.len())
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
