//! Moving content between a store and a step's directory.
//!
//! The directory is given as a [`Dir`], which no path and no link leaves, and paths are relative to it. A file is one
//! object; a directory is one object for each file in it, under `key/`, links and empty directories left out, as Argo's
//! own S3 driver does it (`workflow/artifacts/s3/s3.go`).

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use crate::{ArtifactStore, Body, Error, ErrorKind};

const CHUNK_BYTES: usize = 256 << 10;

/// Brings what lies under `key` to `path`. Returns the number of bytes.
/// More than `limit` of them are an error.
pub async fn download(
    store: &dyn ArtifactStore,
    key: &str,
    root: &Arc<Dir>,
    path: &str,
    limit: u64,
) -> Result<u64, Error> {
    match store.get(key).await {
        Ok(body) => write_file(body, root, path, limit).await,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let prefix = format!("{}/", key.trim_end_matches('/'));
            let mut objects = store.list(&prefix).await?;
            let mut total: Option<u64> = None;
            while let Some(object) = objects.next().await {
                let object = object?;
                let below = object.key.strip_prefix(&prefix).unwrap_or(&object.key);
                let body = store.get(&object.key).await?;
                let so_far = total.unwrap_or(0);
                total = Some(so_far + write_file(body, root, &format!("{path}/{below}"), limit - so_far).await?);
            }
            total.ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// What was taken to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// How much.
    pub bytes: u64,
    /// How many links, and other things that are neither files nor directories, were left out.
    pub links: usize,
}

/// Takes the file or directory at `path` to `key`.
/// More than `limit` of them are an error: a file can be larger than the blocks it has.
pub async fn upload(
    store: &dyn ArtifactStore,
    key: &str,
    root: &Arc<Dir>,
    path: &str,
    limit: u64,
) -> Result<Uploaded, Error> {
    let (files, links) = blocking(root, path, files_at).await?;
    let mut total = 0;
    for below in files {
        let (path, key) = match below.as_str() {
            "" => (path.to_owned(), key.to_owned()),
            below => (format!("{path}/{below}"), format!("{key}/{below}")),
        };
        let (file, length) = blocking(root, &path, open_regular).await?;
        total += length;
        if total > limit {
            return Err(Error::new(ErrorKind::InvalidFile, format!("it is larger than {limit} bytes")));
        }
        let failed = move |error| Error::local(format_args!("reading `/{path}`"), error);
        // Exactly as many bytes as were announced: a store that signs the length must not be surprised by a growing file.
        let file = tokio::io::AsyncReadExt::take(tokio::fs::File::from_std(file), length);
        let stream = ReaderStream::with_capacity(file, CHUNK_BYTES).map(move |chunk| chunk.map_err(&failed));
        store.put(&key, Body { stream: stream.boxed(), length: Some(length) }).await?;
    }
    Ok(Uploaded { bytes: total, links })
}

async fn write_file(mut body: Body, root: &Arc<Dir>, path: &str, limit: u64) -> Result<u64, Error> {
    let create = |root: &Dir, path: &str| {
        if let Some(parent) = Path::new(path).parent() {
            root.create_dir_all(parent)?;
        }
        Ok(root.create(path)?.into_std())
    };
    let mut file = tokio::fs::File::from_std(blocking(root, path, create).await?);
    let failed = |error| Error::local(format_args!("writing `/{path}`"), error);
    let mut written = 0;
    while let Some(chunk) = body.stream.next().await {
        let chunk = chunk?;
        written += chunk.len() as u64;
        if written > limit {
            return Err(Error::new(ErrorKind::InvalidFile, format!("it is larger than {limit} bytes")));
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    match body.length {
        Some(length) if length != written => {
            Err(Error::new(ErrorKind::Unavailable, format!("only {written} of {length} bytes arrived")))
        }
        _ => Ok(written),
    }
}

/// The regular files at or below `path`, relative to it; `""` for a file itself. And how much else is there.
fn files_at(root: &Dir, path: &str) -> io::Result<(Vec<String>, usize)> {
    let metadata = root.metadata(path)?;
    if metadata.is_file() {
        return Ok((vec![String::new()], 0));
    }
    if !metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a file nor a directory"));
    }
    let (mut files, mut others) = (Vec::new(), 0);
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for entry in root.read_dir(Path::new(path).join(&directory))? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the name `{}` is not UTF-8", name.display()))
            })?;
            let below = if directory.is_empty() { name } else { format!("{directory}/{name}") };
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
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

async fn blocking<T: Send + 'static>(
    root: &Arc<Dir>,
    path: &str,
    work: impl FnOnce(&Dir, &str) -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let (root, owned) = (Arc::clone(root), path.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&root, &owned)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Error::new(ErrorKind::InvalidFile, format!("`/{path}`: {error}"))
        }
        _ => Error::local(format_args!("`/{path}`"), error),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;

    use super::*;
    use crate::DirectoryStore;

    const LIMIT: u64 = 2 << 20;

    struct Fixture {
        step: tempfile::TempDir,
        root: Arc<Dir>,
        _kept: tempfile::TempDir,
        store: DirectoryStore,
    }

    fn fixture() -> Fixture {
        let (step, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Arc::new(Dir::open_ambient_dir(step.path(), ambient_authority()).unwrap());
        let store = DirectoryStore::open(kept.path()).unwrap();
        Fixture { step, root, _kept: kept, store }
    }

    #[tokio::test]
    async fn files_and_directories_make_the_round_trip() {
        let f = fixture();
        fs::create_dir_all(f.step.path().join("out/deep")).unwrap();
        fs::write(f.step.path().join("out/a"), b"one").unwrap();
        fs::write(f.step.path().join("out/deep/b"), vec![7; 1 << 20]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", f.step.path().join("out/link")).unwrap();
        let uploaded = upload(&f.store, "k/dir", &f.root, "out", LIMIT).await.unwrap();
        assert_eq!(uploaded, Uploaded { bytes: 3 + (1 << 20), links: 1 });
        assert_eq!(upload(&f.store, "k/file", &f.root, "out/a", LIMIT).await.unwrap().bytes, 3);
        assert_eq!(download(&f.store, "k/dir", &f.root, "in/dir", LIMIT).await.unwrap(), 3 + (1 << 20));
        assert_eq!(download(&f.store, "k/file", &f.root, "in/file", LIMIT).await.unwrap(), 3);
        assert_eq!(fs::read(f.step.path().join("in/dir/deep/b")).unwrap(), vec![7; 1 << 20]);
        assert_eq!(fs::read(f.step.path().join("in/file")).unwrap(), b"one");
        assert!(!f.step.path().join("in/dir/link").exists());
    }

    #[tokio::test]
    async fn nothing_leaves_by_a_link_or_a_climbing_key() {
        let f = fixture();
        std::os::unix::fs::symlink("/etc/passwd", f.step.path().join("link")).unwrap();
        assert!(upload(&f.store, "k", &f.root, "link", LIMIT).await.is_err());
        assert!(upload(&f.store, "k", &f.root, "../../etc/passwd", LIMIT).await.is_err());
        assert!(download(&f.store, "../../../etc/passwd", &f.root, "x", LIMIT).await.is_err());
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_whatever_its_blocks() {
        let f = fixture();
        fs::File::create(f.step.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(upload(&f.store, "k", &f.root, "sparse", LIMIT).await.unwrap_err().kind(), ErrorKind::InvalidFile);
        fs::write(f.step.path().join("two"), b"xx").unwrap();
        upload(&f.store, "two", &f.root, "two", LIMIT).await.unwrap();
        assert!(download(&f.store, "two", &f.root, "in", 1).await.is_err());
    }

    #[tokio::test]
    async fn missing_content_is_not_found() {
        let f = fixture();
        assert_eq!(download(&f.store, "none", &f.root, "x", LIMIT).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(upload(&f.store, "k", &f.root, "none", LIMIT).await.unwrap_err().kind(), ErrorKind::Local);
    }
}
