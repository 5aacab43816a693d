//! Uploads artifacts from the directory of a step.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::Dir;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::PARALLEL_OBJECTS;
use super::disk::blocking;
use crate::archive::{self, Pack};
use crate::blocking_io::{WrittenStream, spawn_io, write_blocking};
use crate::retry::retry;
use crate::{ArtifactStore, Body, Content, Error, ErrorKind};

/// Bytes of a file that are read at once.
const CHUNK_BYTES: u64 = 1 << 20;

/// An artifact to upload.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Key of the object, or of the directory.
    pub key: &'a str,
    /// Path of the artifact.
    pub path: &'a str,
    /// How the artifact is packed.
    pub pack: Pack,
}

/// Summary of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes of files, before packing.
    pub bytes: u64,
    /// Number of links and special files that were left out.
    pub links: usize,
}

/// Uploads a file or a directory.
///
/// # Errors
///
/// [`ErrorKind::InvalidFile`] if the files have more than `limit` bytes. The length of a file
/// counts, because a sparse file can be longer than the blocks that it uses.
pub async fn upload(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    retry(|| async {
        match what.pack {
            Pack::None => upload_files(store, what, root, limit).await,
            Pack::Tar(_) | Pack::Zip => upload_packed(store, what, root, limit).await,
        }
    })
    .await
}

/// Uploads an archive while it is packed.
async fn upload_packed(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    // A path that does not exist must not start an upload.
    blocking(root, what.path, |root, path| root.metadata(path).map(drop)).await?;
    let content = Packed {
        root: Arc::clone(root),
        path: what.path.to_owned(),
        pack: what.pack,
        limit,
        result: Mutex::new(None),
    };
    store.put(what.key, &content).await?;
    let result = content.result.into_inner();
    let packed = match result {
        Some(result) => result.await.ok().flatten(),
        None => None,
    };
    let packed = packed.ok_or_else(|| {
        let message = "the artifact was not packed completely; this is a defect of this program";
        Error::new(ErrorKind::Local, message)
    })?;
    Ok(Uploaded {
        bytes: packed.bytes,
        links: packed.left_out,
    })
}

/// An artifact that is packed while it is read.
struct Packed {
    root: Arc<Dir>,
    path: String,
    pack: Pack,
    limit: u64,
    /// Result of the last packing.
    result: Mutex<Option<JoinHandle<Option<archive::Packed>>>>,
}

#[async_trait]
impl Content for Packed {
    async fn open(&self) -> Result<Body, Error> {
        let root = Arc::clone(&self.root);
        let path = self.path.clone();
        let Self { pack, limit, .. } = *self;
        let WrittenStream { stream, result } = write_blocking(move |out| match pack {
            Pack::Tar(level) => archive::tar_gz(&root, &path, level, limit, out),
            Pack::Zip | Pack::None => archive::zip(&root, &path, limit, out),
        });
        *self.result.lock() = Some(result);
        // Content that cannot be compressed grows a little.
        let at_most = limit.saturating_add(limit / 100).saturating_add(1 << 20);
        Ok(Body {
            at_most: Some(at_most),
            ..Body::new(stream, None)
        })
    }
}

/// Uploads each file as an object.
async fn upload_files(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    root: &Arc<Dir>,
    limit: u64,
) -> Result<Uploaded, Error> {
    let found = blocking(root, what.path, find_files).await?;
    let total = AtomicU64::new(0);
    stream::iter(found.files)
        .map(|below| upload_file(store, what, below, root, limit, &total))
        .buffer_unordered(PARALLEL_OBJECTS)
        .try_collect::<()>()
        .await?;
    Ok(Uploaded {
        bytes: total.into_inner(),
        links: found.others,
    })
}

/// Uploads the file at `below`, relative to the path of the artifact. `total` counts the bytes of
/// all files.
async fn upload_file(
    store: &dyn ArtifactStore,
    what: Upload<'_>,
    below: String,
    root: &Arc<Dir>,
    limit: u64,
    total: &AtomicU64,
) -> Result<(), Error> {
    let path = join(what.path, &below);
    let key = match below.as_str() {
        "" => what.key.to_owned(),
        below => join(what.key.trim_end_matches('/'), below),
    };
    let RegularFile { file, length } = blocking(root, &path, open_regular).await?;
    if total.fetch_add(length, Ordering::Relaxed) + length > limit {
        let message = format!("the artifact is larger than {limit} bytes");
        return Err(Error::new(ErrorKind::InvalidFile, message));
    }
    let content = PlainFile {
        file: Arc::new(file),
        length,
        path,
    };
    store.put(&key, &content).await
}

/// A file that is uploaded as it is.
struct PlainFile {
    file: Arc<std::fs::File>,
    length: u64,
    path: String,
}

#[async_trait]
impl Content for PlainFile {
    async fn open(&self) -> Result<Body, Error> {
        let path = self.path.clone();
        let failed = move |error| Error::local(format_args!("reading `/{path}`"), error);
        let stream = read_exactly(Arc::clone(&self.file), self.length).map_err(failed);
        Ok(Body::new(stream.boxed(), Some(self.length)))
    }
}

/// A stream of exactly `length` bytes of a file. A request announces the length, so a file that
/// grows meanwhile must not add bytes.
fn read_exactly(file: Arc<std::fs::File>, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let starts = (0..length.div_ceil(CHUNK_BYTES)).map(|number| number * CHUNK_BYTES);
    stream::iter(starts).then(move |start| {
        let file = Arc::clone(&file);
        // The buffer is allocated here and not on the blocking thread: the allocator keeps freed
        // memory for each thread.
        let size = usize::try_from(CHUNK_BYTES.min(length - start)).unwrap_or(usize::MAX);
        let mut chunk = vec![0; size];
        spawn_io(move || {
            file.read_exact_at(&mut chunk, start)
                .map(|()| Bytes::from(chunk))
        })
    })
}

/// The content of an artifact.
struct FoundFiles {
    /// Paths of the regular files, relative to the artifact. A file itself has the path `""`.
    files: Vec<String>,
    /// Number of links and special files.
    others: usize,
}

/// Finds the files at and below a path.
fn find_files(root: &Dir, path: &str) -> io::Result<FoundFiles> {
    let metadata = root.metadata(path)?;
    let mut found = FoundFiles {
        files: Vec::new(),
        others: 0,
    };
    if metadata.is_file() {
        found.files.push(String::new());
        return Ok(found);
    }
    if !metadata.is_dir() {
        return Err(invalid_file("it is neither a file nor a directory"));
    }
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for entry in root.read_dir(Path::new(path).join(&directory))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| {
                invalid_file(&format!("the name `{}` is not UTF-8", name.display()))
            })?;
            let below = match directory.as_str() {
                "" => name,
                directory => join(directory, &name),
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(below);
            } else if kind.is_file() {
                found.files.push(below);
            } else {
                found.others += 1;
            }
        }
    }
    found.files.sort();
    Ok(found)
}

/// An open regular file.
struct RegularFile {
    file: std::fs::File,
    /// Length of the file when it was opened.
    length: u64,
}

fn open_regular(root: &Dir, path: &str) -> io::Result<RegularFile> {
    let file = root.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(invalid_file("it is not a regular file"));
    }
    Ok(RegularFile {
        file: file.into_std(),
        length: metadata.len(),
    })
}

fn join(path: &str, below: &str) -> String {
    match below {
        "" => path.to_owned(),
        below => format!("{path}/{below}"),
    }
}

fn invalid_file(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
