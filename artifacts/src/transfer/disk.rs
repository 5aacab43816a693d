//! The step's directory, on threads that block.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::AsyncWriteExt;

use crate::Error;
use crate::mkdir::make_directories;
use crate::quota::{QuotaExceeded, Share};

const CHUNK_BYTES: usize = 256 << 10;

/// What cannot fit is not begun.
pub(super) fn fits(length: Option<u64>, share: &Share) -> Result<(), Error> {
    let limit = share.bounds().bytes;
    if length.is_some_and(|length| length > limit) {
        Err(QuotaExceeded::Bytes(limit).into())
    } else {
        Ok(())
    }
}

pub(super) async fn write_file(
    mut stream: BoxStream<'static, Result<Bytes, Error>>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let counting = Arc::clone(share);
    let create = move |root: &Dir, path: &str| {
        let made = Path::new(path)
            .parent()
            .map_or(Ok(0), |parent| make_directories(root, parent))?;
        counting
            .take_entries(made)
            .map_err(|error| io::Error::other(Error::from(error)))?;
        Ok(root.create(path)?.into_std())
    };
    let mut file = tokio::fs::File::from_std(blocking(root, path, create).await?);
    file.set_max_buf_size(CHUNK_BYTES);
    let failed = |error| Error::local("writing it", error);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        share.take_bytes(chunk.len() as u64)?;
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

pub(super) fn remove(root: &Dir, path: &str) -> io::Result<()> {
    let removed = match root.symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => root.remove_dir_all(path),
        Ok(_) => root.remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    let _ = root.remove_file(format!("{path}.packed"));
    removed
}

pub(super) async fn blocking<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    blocking_io(root, path, work)
        .await
        .map_err(|error| Error::local(format_args!("`/{path}`"), error))
}

/// The same, for who explains errors otherwise.
pub(super) async fn blocking_io<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (root, owned) = (Arc::clone(root), path.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&root, &owned)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
