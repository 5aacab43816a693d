//! A store in a directory of the executor's own machine, for the command line and for tests.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use crate::blocking_io::spawn_io;
use crate::store::ByteStream;
use crate::{ArtifactStore, Body, Content, Error, Object};

const CHUNK_BYTES: usize = 256 << 10;
/// Part of the names of incomplete files. Incomplete files are not objects.
const PARTIAL_MARK: &str = ".partial-";
static PARTIAL_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A store that keeps each object in a file. The key is the path of the file, relative to the root.
#[derive(Clone)]
pub struct DirectoryStore {
    path: PathBuf,
    root: Arc<Dir>,
}

impl DirectoryStore {
    /// Opens the store in a directory. A missing directory is created.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let root = path.to_owned();
        let opened = spawn_io(move || {
            std::fs::create_dir_all(&root)?;
            Dir::open_ambient_dir(&root, ambient_authority())
        });
        let root = opened.await.map_err(|error| {
            let what = format_args!("the directory `{}` cannot be opened", path.display());
            Error::store(what, error)
        })?;
        Ok(Self {
            path: path.to_owned(),
            root: Arc::new(root),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let root = Arc::clone(&self.root);
        let owned = key.to_owned();
        spawn_io(move || work(&root, &owned))
            .await
            .map_err(|error| Error::store(format_args!("`{key}`"), error))
    }
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory `{}`", self.path.display())
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ArtifactStore for DirectoryStore {
    async fn get(&self, key: &str) -> Result<Body, Error> {
        let open = |root: &Dir, key: &str| {
            let file = root.open(key)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                let message = "it is not a regular file";
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
            Ok((file.into_std(), metadata.len()))
        };
        let (file, length) = self.blocking(key, open).await?;
        let key = key.to_owned();
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES);
        let stream = chunks.map(move |chunk| {
            chunk.map_err(|error| Error::store(format_args!("reading `{key}`"), error))
        });
        Ok(Body::new(stream.boxed(), Some(length)))
    }

    /// Writes a file with a temporary name, and renames the file when it is complete.
    async fn put(&self, key: &str, content: &dyn Content) -> Result<(), Error> {
        let body = content.open().await?;
        let number = PARTIAL_NUMBER.fetch_add(1, Ordering::Relaxed);
        let partial = format!("{key}{PARTIAL_MARK}{}-{number}", std::process::id());
        let create = |root: &Dir, partial: &str| {
            if let Some(parent) = Path::new(partial).parent() {
                root.create_dir_all(parent)?;
            }
            Ok(root.create(partial)?.into_std())
        };
        let file = self.blocking(&partial, create).await?;
        let written = write(tokio::fs::File::from_std(file), body.stream, key).await;
        let is_complete = written.is_ok();
        let name = key.to_owned();
        let finish = move |root: &Dir, partial: &str| match is_complete {
            true => root
                .rename(partial, root, &name)
                .inspect_err(|_| drop(root.remove_file(partial))),
            false => root.remove_file(partial),
        };
        let finished = self.blocking(&partial, finish).await;
        written.and(finished)
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Object, Error>>, Error> {
        let list = |root: &Dir, prefix: &str| {
            let mut objects = Vec::new();
            // The last segment of the prefix may be the beginning of a name: `a/b` is a prefix of
            // `a/bc`.
            let directory = prefix
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            walk(root, directory, &mut objects)?;
            objects.retain(|object| object.key.starts_with(prefix));
            Ok(objects)
        };
        let objects = self.blocking(prefix, list).await?;
        Ok(futures::stream::iter(objects.into_iter().map(Ok)).boxed())
    }
}

async fn write(mut file: tokio::fs::File, mut stream: ByteStream, key: &str) -> Result<(), Error> {
    let failed = |error| Error::store(format_args!("writing `{key}`"), error);
    while let Some(chunk) = stream.next().await {
        file.write_all(&chunk?).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}

/// Adds the objects in a directory and below. A directory that does not exist has none.
fn walk(root: &Dir, directory: &str, objects: &mut Vec<Object>) -> io::Result<()> {
    let entries = match root.read_dir(if directory.is_empty() { "." } else { directory }) {
        Ok(entries) => entries,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let key = if directory.is_empty() {
            name
        } else {
            format!("{directory}/{name}")
        };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &key, objects)?;
        } else if kind.is_file() && !key.contains(PARTIAL_MARK) {
            objects.push(Object {
                key,
                size: entry.metadata()?.len(),
            });
        }
    }
    Ok(())
}
