//! Unpacks the stream of an object.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::{StreamExt, TryStreamExt, stream};

use super::disk::{blocking_io, packed_path, write_file};
use crate::archive::{self, Place};
use crate::blocking_io::read_blocking;
use crate::quota::Share;
use crate::store::ByteStream;
use crate::{Error, ErrorKind};

/// Adds an error to the end of a stream if the stream is not as long as announced.
pub(super) fn exact_length(stream: ByteStream, length: Option<u64>) -> ByteStream {
    let Some(length) = length else { return stream };
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let stream = stream.inspect_ok(move |chunk| {
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let end = stream::once(async move {
        match received.load(Ordering::Relaxed) {
            received if received == length => Ok(Bytes::new()),
            received => Err(Error::new(
                ErrorKind::Unavailable,
                format!("{received} bytes arrived, but {length} were expected"),
            )),
        }
    });
    stream.chain(end).boxed()
}

/// Unpacks a tar archive, gzipped or not, while it is downloaded.
pub(super) async fn untar(
    stream: ByteStream,
    root: &Arc<Dir>,
    place: Place,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let root = Arc::clone(root);
    let share = Arc::clone(share);
    let unpacked = read_blocking(stream, move |reader| {
        archive::untar(&root, &place, reader, &share)
    });
    unpacked.await.map_err(|error| archive_error("tar", error))
}

/// Downloads a zip archive to a temporary file, and unpacks the file: the directory of a zip
/// archive is at its end.
pub(super) async fn unzip(
    stream: ByteStream,
    root: &Arc<Dir>,
    place: Place,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let packed = packed_path(&place.path);
    let packed_share = Arc::new(share.for_archive());
    write_file(stream, root, &packed, &packed_share).await?;
    let share = Arc::clone(share);
    let unpack = move |root: &Dir, packed: &str| {
        let unpacked = root
            .open(packed)
            .and_then(|file| archive::unzip(root, &place, io::BufReader::new(file), &share));
        let _ = root.remove_file(packed);
        unpacked
    };
    blocking_io(root, &packed, unpack)
        .await
        .map_err(|error| archive_error("zip", error))
}

/// An error of unpacking. The archive, the store, or the disk may have caused it.
fn archive_error(kind: &str, error: io::Error) -> Error {
    let hint = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<untrusted_tar::Error>())
        .and_then(untrusted_tar::Error::hint);
    let is_damaged = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::Other
    );
    error.downcast().unwrap_or_else(|error: io::Error| {
        if !is_damaged {
            return Error::local(format_args!("unpacking the {kind} archive"), error);
        }
        let message = format!("the {kind} archive cannot be unpacked: {error}");
        let unpacking = Error::new(ErrorKind::Damaged, message).caused_by(error);
        match hint {
            Some(hint) => unpacking.with_hint(hint),
            None => unpacking,
        }
    })
}
