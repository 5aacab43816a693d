//! Taking artifacts away.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::stream;
use futures::{Stream, StreamExt, TryStreamExt};

use super::AT_ONCE;
use super::disk::blocking;
use crate::archive::{self, Pack};
use crate::blocking_io::write_blocking;
use crate::retry::retry;
use crate::{ArtifactStore, Body, Error, ErrorKind};

/// What is read of a file at once.
const PIECE_BYTES: u64 = 1 << 20;

/// An artifact to be taken away.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Its key.
    pub key: &'a str,
    /// Where it is.
    pub path: &'a str,
    /// How it is packed.
    pub pack: Pack,
}

/// What was taken to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// How much, before it was packed.
    pub bytes: u64,
    /// How many links, and other things that are neither files nor directories, were left out.
    pub links: usize,
}

/// Takes a file or directory to a key.
/// More than `limit` bytes are an error: a file can be larger than the blocks it has.
pub async fn upload(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    retry(|| async {
        match what.pack {
            Pack::None => upload_plain(store, what, root, limit).await,
            Pack::Tar(_) | Pack::Zip => upload_packed(store, what, root, limit).await,
        }
    })
    .await
}

async fn upload_packed(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    // A path that leads nowhere begins no object.
    blocking(root, what.path, |root, path| root.metadata(path).map(drop)).await?;
    let (root, path, pack) = (Arc::clone(root), what.path.to_owned(), what.pack);
    let (stream, written) = write_blocking(move |out| match pack {
        Pack::Tar(level) => archive::tar_gz(&root, &path, level, limit, out),
        _ => archive::zip(&root, &path, limit, out),
    });
    // What cannot be made smaller grows a little.
    let at_most = Some(limit.saturating_add(limit / 100).saturating_add(1 << 20));
    store
        .put(
            what.key,
            Body {
                stream,
                length: None,
                at_most,
            },
        )
        .await?;
    let packed = written.await.ok().flatten();
    let packed = packed
        .ok_or_else(|| Error::new(ErrorKind::Local, "packing it broke off; this is a defect"))?;
    Ok(Uploaded {
        bytes: packed.bytes,
        links: packed.left_out,
    })
}

async fn upload_plain(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    let (files, links) = blocking(root, what.path, files_at).await?;
    let total = AtomicU64::new(0);
    let total = &total;
    let uploads = stream::iter(files).map(|below| async move {
        let (path, key) = match below.as_str() {
            "" => (what.path.to_owned(), what.key.to_owned()),
            below => (
                format!("{}/{below}", what.path),
                format!("{}/{below}", what.key.trim_end_matches('/')),
            ),
        };
        let (file, length) = blocking(root, &path, open_regular).await?;
        if total.fetch_add(length, Ordering::Relaxed) + length > limit {
            return Err(Error::new(
                ErrorKind::InvalidFile,
                format!("it is larger than {limit} bytes"),
            ));
        }
        let failed = move |error| Error::local(format_args!("reading `/{path}`"), error);
        let stream = pieces(file, length).map_err(failed);
        store
            .put(&key, Body::new(stream.boxed(), Some(length)))
            .await
    });
    uploads
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(Uploaded {
        bytes: total.load(Ordering::Relaxed),
        links,
    })
}

/// Exactly as many bytes of a file as were announced: a store that signs the length must not be surprised by one that grows.
fn pieces(file: std::fs::File, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let file = Arc::new(file);
    let starts = (0..length.div_ceil(PIECE_BYTES)).map(|number| number * PIECE_BYTES);
    stream::iter(starts).then(move |start| {
        let file = Arc::clone(&file);
        // Made here: the allocator keeps memory for each thread that asks for some, and the threads below are many.
        let size = usize::try_from(PIECE_BYTES.min(length - start)).unwrap_or(usize::MAX);
        let mut piece = vec![0; size];
        let read = move || {
            file.read_exact_at(&mut piece, start)
                .map(|()| Bytes::from(piece))
        };
        async {
            tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        }
    })
}

/// The regular files at or below `path`, relative to it; `""` for a file itself. And how much else is there.
fn files_at(root: &Dir, path: &str) -> io::Result<(Vec<String>, usize)> {
    let metadata = root.metadata(path)?;
    if metadata.is_file() {
        return Ok((vec![String::new()], 0));
    }
    if !metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a directory",
        ));
    }
    let (mut files, mut others) = (Vec::new(), 0);
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for entry in root.read_dir(Path::new(path).join(&directory))? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the name `{}` is not UTF-8", name.display()),
                )
            })?;
            let below = if directory.is_empty() {
                name
            } else {
                format!("{directory}/{name}")
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(below);
            } else if kind.is_file() {
                files.push(below);
            } else {
                others += 1;
            }
        }
    }
    files.sort();
    Ok((files, others))
}

fn open_regular(root: &Dir, path: &str) -> io::Result<(std::fs::File, u64)> {
    let file = root.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file.into_std(), metadata.len()))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ))
    }
}
