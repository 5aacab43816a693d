//! Downloads artifacts to the directory of a step.

use std::sync::Arc;

use cap_std::fs::Dir;
use futures::TryStreamExt;

use super::PARALLEL_OBJECTS;
use super::disk::{blocking, check_length, remove, write_file};
use super::permissions::{Mode, set_permissions};
use super::unpack::{Peeked, exact_length, peek, untar, unzip};
use crate::archive::{self, Place, Unpack};
use crate::quota::{Quota, Share};
use crate::retry::retry;
use crate::store::ByteStream;
use crate::{ArtifactStore, Error, ErrorKind, Object};

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

/// Downloads the object, or the directory of objects, under a key. If the download fails, nothing
/// is left at the path.
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
    let path = what.path;
    let body = match store.get(what.key).await {
        Ok(body) => body,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return fetch_directory(store, what, root, share, error).await;
        }
        Err(error) => return Err(error),
    };
    let length = body.length;
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
            match archive::is_tar_gz(&head) {
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

/// Downloads every object below the key. `missing` is the error if there are none.
async fn fetch_directory(
    store: &dyn ArtifactStore,
    what: &Download<'_>,
    root: &Arc<Dir>,
    share: &Arc<Share>,
    missing: Error,
) -> Result<(), Error> {
    let prefix = format!("{}/", what.key.trim_end_matches('/'));
    let list_failed = |error| vanished(error, "the list of the objects below the key");
    let objects = store.list(&prefix).await.map_err(list_failed)?;
    let files = objects
        .map_err(list_failed)
        .map_ok(|object| fetch_below(store, object, &prefix, what.path, root, share))
        .try_buffer_unordered(PARALLEL_OBJECTS)
        .try_fold(0u64, |sum, files| std::future::ready(Ok(sum + files)))
        .await?;
    match (files, what.unpack) {
        (0, _) => Err(missing),
        (_, Unpack::Tar | Unpack::Zip) => Err(Error::new(
            ErrorKind::Damaged,
            "an archive was expected, but the key is a directory",
        )
        .with_hint("set `archive: {none: {}}`")),
        _ => Ok(()),
    }
}

/// Downloads one object of a directory. Returns the number of files written.
async fn fetch_below(
    store: &dyn ArtifactStore,
    object: Object,
    prefix: &str,
    path: &str,
    root: &Arc<Dir>,
    share: &Arc<Share>,
) -> Result<u64, Error> {
    share.take_entries(1)?;
    // Consoles mark a directory with an empty object whose key ends in a slash.
    if object.key.ends_with('/') {
        return Ok(0);
    }
    check_length(Some(object.size), share)?;
    let below = object.key.strip_prefix(prefix).unwrap_or(&object.key);
    let body = store
        .get(&object.key)
        .await
        .map_err(|error| vanished(error, below))?;
    let stream = exact_length(body.stream, body.length);
    write_file(stream, root, &format!("{path}/{below}"), share).await?;
    Ok(1)
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
