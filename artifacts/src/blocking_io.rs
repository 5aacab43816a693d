//! Blocking I/O next to async streams.
//!
//! Libraries that pack and unpack archives block their thread while they read and write. They run
//! on tokio's threads for blocking work, and a channel of a few chunks connects them to the async
//! side:
//!
//! - [`read_blocking`] gives a stream to a function that reads;
//! - [`write_blocking`] makes a stream from a function that writes.
//!
//! An empty chunk marks the end of the data. If a channel closes without an empty chunk, the other
//! side has failed or was cancelled, and the transfer is incomplete.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::{Error, ErrorKind};

/// Chunks in a channel.
const CHUNKS: usize = 4;
/// Size of the chunks of [`write_blocking`].
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes in the channel of [`read_blocking`]. A single chunk may be larger.
const MOST_BYTES: usize = 1 << 20;

type Chunk = Result<Bytes, Error>;

fn incomplete() -> io::Error {
    io::Error::other(Error::new(ErrorKind::Local, "the transfer was cancelled"))
}

/// Runs disk calls on a thread for blocking work.
pub(crate) async fn spawn_io<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Runs `read` on a thread for blocking work. `read` reads the bytes of `stream`; it may stop
/// before the end.
pub(crate) async fn read_blocking<T: Send + 'static>(
    stream: impl Stream<Item = Chunk> + Unpin + Send,
    read: impl FnOnce(StreamReader) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = channel(CHUNKS);
    let reader = StreamReader {
        receiver,
        chunk: Bytes::new(),
        permit: None,
        ended: false,
    };
    let read = spawn_io(move || read(reader));
    let ((), read) = tokio::join!(feed(stream, sender), read);
    read
}

/// A chunk in the channel, with its permit for [`MOST_BYTES`].
struct PermittedChunk {
    chunk: Chunk,
    permit: Option<OwnedSemaphorePermit>,
}

/// Sends the chunks of a stream to a [`StreamReader`], until the stream ends or the reader is
/// dropped.
///
/// S3 parts are chunks of several MiB, so the channel is also limited by bytes.
async fn feed(
    mut stream: impl Stream<Item = Chunk> + Unpin + Send,
    sender: Sender<PermittedChunk>,
) {
    let memory = Arc::new(Semaphore::new(MOST_BYTES));
    loop {
        // A reader that has stopped does not wait for the next chunk.
        let chunk = tokio::select! {
            biased;
            () = sender.closed() => return,
            chunk = stream.next() => chunk,
        };
        let Some(chunk) = chunk else { break };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        // An empty chunk would mark the end.
        if chunk.is_ok() && length == 0 {
            continue;
        }
        let Ok(bytes) = u32::try_from(length.min(MOST_BYTES)) else {
            return;
        };
        let permit = Arc::clone(&memory).acquire_many_owned(bytes).await.ok();
        let sent = sender.send(PermittedChunk { chunk, permit }).await;
        if sent.is_err() {
            return;
        }
    }
    let end = PermittedChunk {
        chunk: Ok(Bytes::new()),
        permit: None,
    };
    let _ = sender.send(end).await;
}

/// The bytes of a stream, for a thread that blocks.
pub(crate) struct StreamReader {
    receiver: Receiver<PermittedChunk>,
    chunk: Bytes,
    /// Permit of `chunk`. It is released when the chunk has been read.
    permit: Option<OwnedSemaphorePermit>,
    ended: bool,
}

impl Read for StreamReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            let PermittedChunk { chunk, permit } =
                self.receiver.blocking_recv().ok_or_else(incomplete)?;
            self.chunk = chunk.map_err(io::Error::other)?;
            self.permit = permit;
            self.ended = self.chunk.is_empty();
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
            self.permit = None;
        }
        Ok(count)
    }
}

/// Data that a thread writes. See [`write_blocking`].
pub(crate) struct WrittenStream<T> {
    /// The data. If the function fails, the stream ends with the error.
    pub(crate) stream: BoxStream<'static, Chunk>,
    /// The result of the function; `None` if it failed. It is ready when the stream has ended.
    pub(crate) result: JoinHandle<Option<T>>,
}

/// Runs `write` on a thread for blocking work, and makes a stream of the data that it writes.
pub(crate) fn write_blocking<T: Send + 'static>(
    write: impl FnOnce(&mut StreamWriter) -> io::Result<T> + Send + 'static,
) -> WrittenStream<T> {
    let (sender, receiver) = channel::<Chunk>(CHUNKS);
    let result = tokio::task::spawn_blocking(move || {
        let mut writer = StreamWriter {
            sender,
            chunk: BytesMut::with_capacity(CHUNK_BYTES),
        };
        let written = write(&mut writer).and_then(|written| writer.flush().map(|()| written));
        // If the stream was dropped, its owner has an error of its own.
        match written {
            Ok(written) => {
                let _ = writer.sender.blocking_send(Ok(Bytes::new()));
                Some(written)
            }
            Err(error) => {
                let error = Error::local("packing the artifact", error);
                let _ = writer.sender.blocking_send(Err(error));
                None
            }
        }
    });
    let stream = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(chunk)) if chunk.is_empty() => None,
            Some(Ok(chunk)) => Some((Ok(chunk), Some(receiver))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((
                Err(Error::local("packing the artifact", incomplete())),
                None,
            )),
        }
    });
    WrittenStream {
        stream: stream.boxed(),
        result,
    }
}

/// The writing end of a stream, for a thread that blocks.
pub(crate) struct StreamWriter {
    sender: Sender<Chunk>,
    chunk: BytesMut,
}

impl Write for StreamWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.chunk, BytesMut::with_capacity(CHUNK_BYTES));
        self.sender
            .blocking_send(Ok(full.freeze()))
            .map_err(|_| incomplete())
    }
}
