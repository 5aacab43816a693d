//! Between streams and threads that block: archives are packed and unpacked by libraries that read and write.
//!
//! A channel of few chunks is between the two sides. Its end is said with an empty chunk: a side that just goes away has not finished.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, ErrorKind};

const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 256 << 10;
/// The most that is between the two sides, or one chunk.
const MOST_BYTES: usize = 1 << 20;

type Chunk = Result<Bytes, Error>;

fn broken() -> Error {
    Error::new(ErrorKind::Local, "the transfer was given up")
}

/// Reads what a stream brings, on a thread that blocks. What `read` gives is the result; it need not read all.
pub(crate) async fn read_blocking<T: Send + 'static>(
    mut stream: impl Stream<Item = Chunk> + Unpin + Send,
    read: impl FnOnce(Reader) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = channel(CHUNKS);
    let reader = Reader {
        receiver,
        chunk: Bytes::new(),
        room: None,
        ended: false,
    };
    let reader = tokio::task::spawn_blocking(move || read(reader));
    let room = Arc::new(Semaphore::new(MOST_BYTES));
    let feeding = async {
        loop {
            // Who has read enough does not wait for the next.
            let chunk = tokio::select! {
                biased;
                () = sender.closed() => return,
                chunk = stream.next() => chunk,
            };
            let Some(chunk) = chunk else { break };
            let length = chunk.as_ref().map_or(0, Bytes::len);
            // An empty chunk would be the end.
            if chunk.is_ok() && length == 0 {
                continue;
            }
            // Some chunks are whole parts: as many of those as of small ones would be too much.
            let room = u32::try_from(length.min(MOST_BYTES))
                .map(|bytes| Arc::clone(&room).acquire_many_owned(bytes));
            let Ok(room) = room else { return };
            if sender.send((chunk, room.await.ok())).await.is_err() {
                return;
            }
        }
        let _ = sender.send((Ok(Bytes::new()), None)).await;
    };
    let ((), read) = tokio::join!(feeding, reader);
    read.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The reading side.
pub(crate) struct Reader {
    receiver: Receiver<(Chunk, Option<OwnedSemaphorePermit>)>,
    chunk: Bytes,
    /// What the chunk takes of the memory for those on their way.
    room: Option<OwnedSemaphorePermit>,
    ended: bool,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some((Ok(chunk), _)) if chunk.is_empty() => self.ended = true,
                Some((Ok(chunk), room)) => (self.chunk, self.room) = (chunk, room),
                Some((Err(error), _)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other(broken())),
            }
        }
        let count = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        if self.chunk.is_empty() {
            (self.chunk, self.room) = (Bytes::new(), None);
        }
        Ok(count)
    }
}

/// A stream of what `write` writes, on a thread that blocks; and how that ended, once the stream has.
pub(crate) fn write_blocking<T: Send + 'static>(
    write: impl FnOnce(&mut Writer) -> io::Result<T> + Send + 'static,
) -> (
    BoxStream<'static, Chunk>,
    tokio::task::JoinHandle<Option<T>>,
) {
    let (sender, receiver) = channel::<Chunk>(CHUNKS);
    let written = tokio::task::spawn_blocking(move || {
        let mut writer = Writer {
            sender,
            chunk: BytesMut::with_capacity(CHUNK_BYTES),
        };
        let written = write(&mut writer).and_then(|written| writer.flush().map(|()| written));
        let (last, written) = match written {
            Ok(written) => (Ok(Bytes::new()), Some(written)),
            Err(error) => (Err(Error::local("packing it", error)), None),
        };
        // Whoever does not listen any more has an error of their own.
        let _ = writer.sender.blocking_send(last);
        written
    });
    let stream = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Ok(chunk)) if chunk.is_empty() => None,
            Some(Ok(chunk)) => Some((Ok(chunk), Some(receiver))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(broken()), None)),
        }
    });
    (stream.boxed(), written)
}

/// The writing side.
pub(crate) struct Writer {
    sender: Sender<Chunk>,
    chunk: BytesMut,
}

impl Write for Writer {
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
            .map_err(|_| io::Error::other(broken()))
    }
}
