//! A store in a directory of this machine: for the command line and for tests, with nothing installed.

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

use crate::{ArtifactStore, Body, Error, Object};

const CHUNK_BYTES: usize = 256 << 10;
/// In the names of files being written. They are no objects.
const PARTIAL_MARK: &str = ".partial-";
static PARTIAL: AtomicU64 = AtomicU64::new(0);

/// Objects are files; a key is the path below the root.
#[derive(Clone)]
pub struct DirectoryStore {
    path: PathBuf,
    root: Arc<Dir>,
}

impl DirectoryStore {
    /// Opens the directory, and makes it if it is missing.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| {
            Error::store(
                format_args!("the directory `{}` cannot be opened", path.display()),
                error,
            )
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed)?;
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
        let (root, owned) = (Arc::clone(&self.root), key.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&root, &owned)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| Error::store(format_args!("`{key}`"), error))
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
                return Err(io::Error::new(io::ErrorKind::NotFound, "it is no file"));
            }
            Ok((file.into_std(), metadata.len()))
        };
        let (file, length) = self.blocking(key, open).await?;
        let key = key.to_owned();
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), CHUNK_BYTES).map(
            move |chunk| {
                chunk.map_err(|error| Error::store(format_args!("reading `{key}`"), error))
            },
        );
        Ok(Body::new(stream.boxed(), Some(length)))
    }

    async fn put(&self, key: &str, mut body: Body) -> Result<(), Error> {
        let number = PARTIAL.fetch_add(1, Ordering::Relaxed);
        let partial = format!("{key}{PARTIAL_MARK}{}-{number}", std::process::id());
        let create = |root: &Dir, partial: &str| {
            if let Some(parent) = Path::new(partial).parent() {
                root.create_dir_all(parent)?;
            }
            Ok(root.create(partial)?.into_std())
        };
        let file = self.blocking(&partial, create).await?;
        let written = async {
            let mut file = tokio::fs::File::from_std(file);
            while let Some(chunk) = body.stream.next().await {
                let written = file.write_all(&chunk?).await;
                written.map_err(|error| Error::store(format_args!("writing `{key}`"), error))?;
            }
            file.flush()
                .await
                .map_err(|error| Error::store(format_args!("writing `{key}`"), error))
        };
        let written = written.await;
        let (keep, name) = (written.is_ok(), key.to_owned());
        let finish = move |root: &Dir, partial: &str| {
            if keep {
                root.rename(partial, root, &name)
            } else {
                root.remove_file(partial)
            }
        };
        let finished = self.blocking(&partial, finish).await;
        written.and(finished)
    }

    async fn list(&self, prefix: &str) -> Result<BoxStream<'static, Result<Object, Error>>, Error> {
        let walk = |root: &Dir, prefix: &str| {
            let mut objects = Vec::new();
            // Only whole path segments can be directories: `a/b` is looked for in `a`.
            let directory = prefix
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            walk(root, directory, &mut objects)?;
            objects.retain(|object| object.key.starts_with(prefix));
            Ok(objects)
        };
        let objects = self.blocking(prefix, walk).await?;
        Ok(futures::stream::iter(objects.into_iter().map(Ok)).boxed())
    }
}

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
