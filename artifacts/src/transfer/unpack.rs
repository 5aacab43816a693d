//! What comes, and archives among it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use super::disk::{blocking_io, write_file};
use crate::archive;
use crate::blocking_io::read_blocking;
use crate::quota::Share;
use crate::{Error, ErrorKind};

/// Enough of an object to see whether it is an archive.
const HEAD: usize = 64 << 10;

/// The same stream, which is an error where it is shorter than announced.
pub(super) fn exact_length(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    length: Option<u64>,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let Some(length) = length else { return stream };
    let came = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&came);
    let stream = stream.inspect_ok(move |chunk| {
        counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let end = stream::once(async move {
        match came.load(Ordering::Relaxed) {
            came if came == length => Ok(Bytes::new()),
            came => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{came} of {length} bytes arrived"),
            )),
        }
    });
    stream.chain(end).boxed()
}

/// The beginning of a stream, and the whole of it.
pub(super) async fn peek(
    mut stream: BoxStream<'static, Result<Bytes, Error>>,
) -> Result<(Vec<u8>, BoxStream<'static, Result<Bytes, Error>>), Error> {
    let (mut head, mut chunks) = (Vec::new(), Vec::new());
    while head.len() < HEAD {
        let Some(chunk) = stream.next().await.transpose()? else {
            break;
        };
        head.extend_from_slice(&chunk);
        chunks.push(Ok(chunk));
    }
    Ok((head, stream::iter(chunks).chain(stream).boxed()))
}

pub(super) async fn untar(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let (root, owned, share) = (Arc::clone(root), path.to_owned(), Arc::clone(share));
    let unpacked = read_blocking(stream, move |reader| {
        archive::untar(&root, &owned, reader, &share)
    })
    .await;
    unpacked.map_err(|error| in_archive("tar", error))
}

/// A zip begins at its end: it is here as a whole before, and its own size is none of what comes out of it.
pub(super) async fn unzip(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let packed = format!("{path}.packed");
    let archive = Arc::new(share.for_archive());
    write_file(stream, root, &packed, &archive).await?;
    let (place, share) = (path.to_owned(), Arc::clone(share));
    let unpack = move |root: &Dir, packed: &str| {
        let unpacked = root
            .open(packed)
            .and_then(|file| archive::unzip(root, &place, io::BufReader::new(file), &share));
        let _ = root.remove_file(packed);
        unpacked
    };
    blocking_io(root, &packed, unpack)
        .await
        .map_err(|error| in_archive("zip", error))
}

fn in_archive(kind: &str, error: io::Error) -> Error {
    let is_archives = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::Other
    );
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) if is_archives => Error::new(
            ErrorKind::Damaged,
            format!("the {kind} archive cannot be unpacked: {error}"),
        )
        .caused_by(error),
        Err(error) => Error::local(format_args!("unpacking the {kind} archive"), error),
    }
}
