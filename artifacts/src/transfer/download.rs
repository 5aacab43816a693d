//! Downloads artifacts to the directory of a step.

use std::sync::Arc;

use cap_std::fs::Dir;
use futures::TryStreamExt;

use super::PARALLEL_OBJECTS;
use super::disk::{add_directories, blocking, check_length, remove, write_file};
use super::permissions::{Mode, set_permissions};
use super::unpack::{exact_length, untar, unzip};
use crate::archive::{self, Place, Unpack};
use crate::quota::{Quota, Share};
use crate::retry::retry;
use crate::store::{ByteStream, Peeked, peek};
use crate::{ArtifactStore, Body, Error, ErrorKind, Object};

/// An artifact to download.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// Key of the object, or of the directory.
    pub key: &'a str,
    /// Path that the artifact is written to. Nothing else may write to its directory at the same
    /// time.
    pub path: &'a str,
    /// Absolute path at which the step sees the artifact. Absolute links in an archive may lead
    /// below it.
    pub seen_at: &'a str,
    /// How the artifact is unpacked.
    pub unpack: Unpack,
    /// Permissions of the artifact. `None` leaves them as they are.
    pub mode: Option<Mode>,
}

/// Downloads the object, or the directory of objects, under a key. A key that ends in a slash is a
/// directory. If the download fails, nothing is left at the path.
pub async fn download(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    quota: &Arc<Quota>,
) -> Result<(), Error> {
    retry(|| async {
        let share = Arc::new(quota.share());
        let fetched = fetch(store, what, root, &share).await;
        match fetched {
            Ok(()) => share.commit(),
            Err(_) => drop(blocking(root, what.path, remove).await),
        }
        fetched
    })
    .await?;
    set_permissions(root, what.path, what.mode).await
}

async fn fetch(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
) -> Result<(), Error> {
    if what.key.ends_with('/') {
        return fetch_directory(store, what, root, share, Own::None).await;
    }
    match store.get(what.key).await {
        Ok(body) if body.marks_directory => {
            fetch_directory(store, what, root, share, Own::Marker(0)).await
        }
        Ok(body) => receive(body, what, root, share).await,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fetch_directory(store, what, root, share, Own::Missing(error)).await
        }
        Err(error) => Err(error),
    }
}

/// Writes an object, or unpacks it.
async fn receive(
    body: Body,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
) -> Result<(), Error> {
    let path = what.path;
    let Body {
        length, was_tar_gz, ..
    } = body;
    let stream = exact_length(body.stream, length);
    let place = || Place {
        path: path.to_owned(),
        seen_at: what.seen_at.to_owned(),
    };
    match what.unpack {
        Unpack::None => write_object(stream, length, root, path, share).await,
        Unpack::Tar => untar(stream, root, place(), share).await,
        Unpack::Zip => unzip(stream, root, place(), share).await,
        Unpack::Detect => {
            let Peeked { head, stream } = peek(stream).await?;
            match archive::is_tar_gz(&head) || was_tar_gz {
                true => untar(stream, root, place(), share).await,
                false => write_object(stream, length, root, path, share).await,
            }
        }
    }
}

/// Writes an object to a file, without unpacking it.
async fn write_object(
    stream: ByteStream,
    length: Option<u64>,
    root: &Arc<Dir>,
    path: &str,
    share: &Arc<Share>,
) -> Result<(), Error> {
    check_length(length, share)?;
    share.take_entries(1)?;
    write_file(stream, root, path, share).await
}

/// The object whose key is the key of the directory.
enum Own {
    /// The store was not asked for the object.
    None,
    /// The store has no such object.
    Missing(Error),
    /// The object marks the directory, and has this number of bytes.
    Marker(u64),
}

/// An object below the key of a directory.
enum Below {
    File,
    /// An object whose key ends in a slash. Consoles mark a directory with such an object. `path`
    /// is relative to the directory, and empty for the directory itself.
    Marker {
        path: String,
        size: u64,
    },
}

/// Downloads every object below the key. Markers of directories become directories.
///
/// An object whose key ends in a slash, and that has content, is a marker only if other objects are
/// below its key. Otherwise it is the artifact: Argo can store a file under such a key.
async fn fetch_directory(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
    mut own: Own,
) -> Result<(), Error> {
    let prefix = format!("{}/", what.key.trim_end_matches('/'));
    let list_failed = |error| vanished(error, "the list of the objects below the key");
    let objects = store.list(&prefix).await.map_err(list_failed)?;
    let mut objects = objects
        .map_err(list_failed)
        .map_ok(|object| fetch_below(store, object, &prefix, what.path, root, share))
        .try_buffer_unordered(PARALLEL_OBJECTS);
    let mut files = 0;
    let mut directories = Vec::new();
    while let Some(below) = objects.try_next().await? {
        match below {
            Below::File => files += 1,
            Below::Marker { path, size } if path.is_empty() => own = Own::Marker(size),
            Below::Marker { path, size } => {
                if size > 0 {
                    tracing::warn!(
                        key = prefix,
                        path,
                        size,
                        "the content of a directory's marker is left out"
                    );
                }
                directories.push(path);
            }
        }
    }
    if files == 0 && directories.is_empty() {
        match own {
            Own::Missing(error) => return Err(error),
            Own::None => {
                let message = format!("there is no object `{}`, and none below it", what.key);
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            Own::Marker(1..) => return receive(store.get(&prefix).await?, what, root, share).await,
            Own::Marker(0) => {}
        }
    }
    if matches!(what.unpack, Unpack::Tar | Unpack::Zip) {
        let message = "an archive was expected, but the key is a directory";
        return Err(Error::new(ErrorKind::Damaged, message).with_hint("set `archive: {none: {}}`"));
    }
    directories.push(String::new());
    add_directories(root, what.path, directories, share).await
}

/// Downloads one object of a directory.
async fn fetch_below(
    store: &dyn ArtifactStore,
    object: Object,
    prefix: &str,
    path: &str,
    root: &Arc<Dir>,
    share: &Arc<Share>,
) -> Result<Below, Error> {
    share.take_entries(1)?;
    let below = object.key.strip_prefix(prefix).unwrap_or(&object.key);
    // The files of other artifacts have the same parent.
    if below.split('/').any(|part| matches!(part, "." | "..")) {
        let message = format!("the key `{}` has a segment `.` or `..`", object.key);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    if object.key.ends_with('/') {
        return Ok(Below::Marker {
            path: below.trim_end_matches('/').to_owned(),
            size: object.size,
        });
    }
    check_length(Some(object.size), share)?;
    let body = store
        .get(&object.key)
        .await
        .map_err(|error| vanished(error, below))?;
    let stream = exact_length(body.stream, body.length);
    write_file(stream, root, &format!("{path}/{below}"), share).await?;
    Ok(Below::File)
}

/// Changes a `NotFound` error of a listed object, or of a list, to `Unavailable`: an optional
/// artifact is not missing only because one of its objects was removed during the download.
fn vanished(error: Error, what: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            let message = format!("{what}: {error}");
            error
                .with_message(message)
                .with_kind(ErrorKind::Unavailable)
        }
        _ => error,
    }
}
