//! Moving content between a store and a step's directory.
//!
//! The directory is given as a [`Dir`], which no path and no link leaves, and paths are relative to it. A file is one
//! object; a directory is an archive, or one object for each file in it, under `key/`, links and empty directories left out, as Argo's
//! own S3 driver does it (`workflow/artifacts/s3/s3.go`).

mod place;

use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

pub use place::{permit, place};

use crate::archive::{self, Pack, Unpack};
use crate::blocking_io as bridge;
use crate::mkdir::make_directories;
use crate::quota::{Quota, Share};
use crate::{ArtifactStore, Body, Error, ErrorKind};

const CHUNK_BYTES: usize = 256 << 10;
/// What is read of a file at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Objects of one directory on their way at once.
const AT_ONCE: usize = 16;
/// A transfer that the network broke begins again.
const ATTEMPTS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Enough of an object to see whether it is an archive.
const HEAD: usize = 64 << 10;

/// An artifact to be brought.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// Its key.
    pub key: &'a str,
    /// Where it goes, in a directory that nobody else writes to.
    pub path: &'a str,
    /// How it is unpacked.
    pub unpack: Unpack,
    /// Permissions of what came, and whether of everything in it.
    pub mode: Option<(u32, bool)>,
}

/// Brings what lies under a key.
pub async fn download(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    quota: &Arc<Quota>,
) -> Result<(), Error> {
    again(|| async {
        let share = Arc::new(quota.share());
        let fetched = fetch(store, what, root, &share).await;
        match fetched {
            Ok(()) => share.keep(),
            // Nothing half-written stays, for the next attempt or for the guest.
            Err(_) => drop(blocking(root, what.path, remove).await),
        }
        fetched
    })
    .await?;
    permit(root, what.path, what.mode).await
}

async fn again<T, F: Future<Output = Result<T, Error>>>(
    mut work: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if error.retryable() && attempt < ATTEMPTS => {
                tracing::warn!(%error, attempt, "a transfer failed, trying again");
                tokio::time::sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await;
                attempt += 1;
            }
            Err(error) if error.retryable() => {
                let message = format!("{error}, after {attempt} attempts");
                return Err(Error::new(error.kind(), message).caused_by(error));
            }
            done => return done,
        }
    }
}

async fn fetch(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let Download {
        key, path, unpack, ..
    } = *what;
    let body = match store.get(key).await {
        Ok(body) => body,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return fetch_directory(store, what, root, share, error).await;
        }
        Err(error) => return Err(error),
    };
    let Body { stream, length, .. } = body;
    let stream = whole(stream, length);
    match unpack {
        Unpack::None => plain(stream, length, root, path, share).await,
        Unpack::Tar => untar(stream, root, path, share).await,
        Unpack::Zip => unzip(stream, root, path, share).await,
        Unpack::Detect => {
            let (head, stream) = peek(stream).await?;
            match archive::is_tar_gz(&head) {
                true => untar(stream, root, path, share).await,
                false => plain(stream, length, root, path, share).await,
            }
        }
    }
}

/// One file, as it is. One that is too large is not begun.
async fn plain(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    length: Option<u64>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    fits(length, share)?;
    share.take_entries(1).map_err(too_many)?;
    write_file(stream, root, path, share).await
}

/// The same stream, which is an error where it is shorter than announced.
fn whole(
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
async fn peek(
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

async fn untar(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let (root, owned, share) = (Arc::clone(root), path.to_owned(), Arc::clone(share));
    let unpacked = bridge::reading(stream, move |reader| {
        archive::untar(&root, &owned, reader, &share)
    })
    .await;
    unpacked.map_err(|error| in_archive("tar", error))
}

/// A zip begins at its end: it is here as a whole before, and its own size is none of what comes out of it.
async fn unzip(
    stream: BoxStream<'static, Result<Bytes, Error>>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let packed = format!("{path}.packed");
    let archive = Arc::new(share.of_archive());
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

/// Every object below the key. `missing` is the error when there is none.
async fn fetch_directory(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
    missing: Error,
) -> Result<(), Error> {
    let prefix = format!("{}/", what.key.trim_end_matches('/'));
    let objects = store
        .list(&prefix)
        .await
        .map_err(|error| not_missing(error, "the list of what is below it"))?;
    let objects = objects.map_err(|error| not_missing(error, "the list of what is below it"));
    let fetched = objects.map_ok(|object| {
        let prefix = &prefix;
        async move {
            share.take_entries(1).map_err(too_many)?;
            // What a console makes of a directory ends in a slash, and is none.
            if object.key.ends_with('/') {
                return Ok(0);
            }
            let below = object
                .key
                .strip_prefix(prefix.as_str())
                .unwrap_or(&object.key);
            fits(Some(object.size), share)?;
            let Body { stream, length, .. } = store
                .get(&object.key)
                .await
                .map_err(|error| not_missing(error, below))?;
            write_file(
                whole(stream, length),
                root,
                &format!("{}/{below}", what.path),
                share,
            )
            .await
            .map(|()| 1)
        }
    });
    let count = fetched
        .try_buffer_unordered(AT_ONCE)
        .try_fold(0u64, |count, came| std::future::ready(Ok(count + came)))
        .await?;
    match (count, what.unpack) {
        (0, _) => Err(missing),
        (_, Unpack::Tar | Unpack::Zip) => Err(Error::new(
            ErrorKind::Damaged,
            "an archive was expected, and the key is a directory: set `archive: {none: {}}`",
        )),
        _ => Ok(()),
    }
}

/// What cannot fit is not begun.
fn fits(length: Option<u64>, share: &Share) -> Result<(), Error> {
    let limit = share.bounds().bytes;
    if length.is_some_and(|length| length > limit) {
        Err(too_large(limit))
    } else {
        Ok(())
    }
}

fn too_large(left: u64) -> Error {
    let message =
        format!("it is larger than {left} bytes, which the step's limit on its disk leaves");
    Error::new(ErrorKind::Damaged, message)
}

fn too_many(left: u64) -> Error {
    Error::new(
        ErrorKind::Damaged,
        format!("it has more than {left} entries"),
    )
}

/// What was listed, or should be a list, is not an artifact that is missing.
fn not_missing(error: Error, what: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::Unavailable, format!("{what}: {error}")).caused_by(error)
        }
        _ => error,
    }
}

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
    again(|| async {
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
    let (stream, written) = bridge::writing(move |out| match pack {
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

async fn write_file(
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
            .map_err(|left| io::Error::other(too_many(left)))?;
        Ok(root.create(path)?.into_std())
    };
    let mut file = tokio::fs::File::from_std(blocking(root, path, create).await?);
    file.set_max_buf_size(CHUNK_BYTES);
    let failed = |error| Error::local("writing it", error);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        share.take_bytes(chunk.len() as u64).map_err(too_large)?;
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
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

fn remove(root: &Dir, path: &str) -> io::Result<()> {
    let removed = match root.symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => root.remove_dir_all(path),
        Ok(_) => root.remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    let _ = root.remove_file(format!("{path}.packed"));
    removed
}

async fn blocking<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    blocking_io(root, path, work)
        .await
        .map_err(|error| Error::local(format_args!("`/{path}`"), error))
}

/// The same, for who explains errors otherwise.
async fn blocking_io<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (root, owned) = (Arc::clone(root), path.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&root, &owned)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
