//! Disk calls in the directory of a step. They run on threads for blocking work.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use futures::StreamExt;
use tokio::io::AsyncWriteExt;

use crate::Error;
use crate::blocking_io::spawn_io;
use crate::mkdir::make_directories;
use crate::quota::{QuotaExceeded, Share};
use crate::store::ByteStream;

const CHUNK_BYTES: usize = 256 << 10;

/// Checks a length that is known before the download. A download that cannot fit is not started.
pub(super) fn check_length(length: Option<u64>, share: &Share) -> Result<(), Error> {
    let limit = share.bounds().bytes;
    if length.is_some_and(|length| length > limit) {
        Err(QuotaExceeded::Bytes(limit).into())
    } else {
        Ok(())
    }
}

/// Writes a stream to a new file, and creates its parent directories. `share` counts bytes and
/// directories; the caller counts the file.
pub(super) async fn write_file(
    mut stream: ByteStream,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let counting = Arc::clone(share);
    let create = move |root: &Dir, path: &str| {
        let created = Path::new(path)
            .parent()
            .map_or(Ok(0), |parent| make_directories(root, parent))?;
        counting
            .take_entries(created)
            .map_err(|error| io::Error::other(Error::from(error)))?;
        Ok(root.create(path)?.into_std())
    };
    let mut file = tokio::fs::File::from_std(blocking(root, path, create).await?);
    file.set_max_buf_size(CHUNK_BYTES);
    let failed = |error| Error::local("writing the artifact", error);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        share.take_bytes(chunk.len() as u64)?;
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

/// Makes the directories `below` in `path`. The caller has refused `.` and `..` in them. A file or
/// a link that exists at one of these paths stays.
pub(super) async fn add_directories(
    root: &Arc<Dir>,
    path: &str,
    below: Vec<String>,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let counting = Arc::clone(share);
    let make = move |root: &Dir, path: &str| {
        for below in below {
            let made = match make_directories(root, &Path::new(path).join(below)) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                made => made?,
            };
            let counted = counting.take_entries(made);
            counted.map_err(|error| io::Error::other(Error::from(error)))?;
        }
        Ok(())
    };
    blocking(root, path, make).await
}

/// Removes an incomplete download, with the zip archive that it may come from.
pub(super) fn remove(root: &Dir, path: &str) -> io::Result<()> {
    let removed = match root.symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => root.remove_dir_all(path),
        Ok(_) => root.remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    let _ = root.remove_file(packed_path(path));
    removed
}

/// Path of a zip archive while it is downloaded and unpacked to `path`.
pub(super) fn packed_path(path: &str) -> String {
    format!("{path}.packed")
}

/// Runs disk calls on a thread for blocking work. The error names `path`.
pub(super) async fn blocking<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    blocking_io(root, path, work)
        .await
        .map_err(|error| Error::local(format_args!("`/{path}`"), error))
}

/// Runs disk calls on a thread for blocking work. The caller adds a message to the error.
pub(super) async fn blocking_io<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let root = Arc::clone(root);
    let path = path.to_owned();
    spawn_io(move || work(&root, &path)).await
}
