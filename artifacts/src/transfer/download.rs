//! Bringing artifacts.

use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::Dir;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::AT_ONCE;
use super::disk::{blocking, fits, remove, write_file};
use super::permissions::{Mode, set_permissions};
use super::unpack::{exact_length, peek, untar, unzip};
use crate::archive::{self, Unpack};
use crate::quota::{Quota, Share};
use crate::retry::retry;
use crate::{ArtifactStore, Body, Error, ErrorKind};

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
    pub mode: Option<Mode>,
}

/// Brings what lies under a key.
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
            // Nothing half-written stays, for the next attempt or for the guest.
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
    let stream = exact_length(stream, length);
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
    share.take_entries(1)?;
    write_file(stream, root, path, share).await
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
            share.take_entries(1)?;
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
                exact_length(stream, length),
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

/// What was listed, or should be a list, is not an artifact that is missing.
fn not_missing(error: Error, what: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::Unavailable, format!("{what}: {error}")).caused_by(error)
        }
        _ => error,
    }
}
