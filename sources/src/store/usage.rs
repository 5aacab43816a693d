//! What is in the store, and what goes when it is full.
//!
//! A file's modification time is when it was last used. Removing is safe at any point and beside other processes: a reader that has
//! a file open keeps it, and everybody else finds a miss and downloads again.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::{BLOBS, PACKAGES, REFERENCES, Store, TEMPORARY, read_json};
use crate::{Digest, Reference, Resolved};

/// Longer than any download may take: what is older in `tmp` belongs to nobody.
const ABANDONED: Duration = Duration::from_hours(1);

/// A reference in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The reference, which is shown without what may be secret.
    #[serde(serialize_with = "redacted")]
    pub reference: Reference,
    /// The digest of what it resolved to.
    pub artifact: Digest,
    /// The bytes on disk. References with the same content share them.
    pub bytes: u64,
    /// Whether all of it is here.
    pub complete: bool,
}

fn redacted<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&reference.redacted())
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Files of content.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

struct Used {
    path: PathBuf,
    bytes: u64,
    last: SystemTime,
}

impl Store {
    /// The references, in the order of their names. Those that were found with Secrets are there once for each.
    pub fn list(&self) -> Vec<Stored> {
        let mut list: Vec<Stored> = self
            .references()
            .map(
                |(
                    _,
                    Resolved {
                        reference,
                        artifact,
                        parts,
                        ..
                    },
                )| {
                    let files: Vec<_> = parts
                        .iter()
                        .filter_map(|part| self.blob_path(&part.digest).metadata().ok())
                        .collect();
                    let bytes = files.iter().map(Metadata::len).sum();
                    let complete = files.len() == parts.len();
                    Stored {
                        reference,
                        artifact,
                        bytes,
                        complete,
                    }
                },
            )
            .collect();
        list.sort_by_cached_key(|stored| stored.reference.to_string());
        list
    }

    /// Bytes of content.
    pub fn bytes(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.bytes).sum()
    }

    /// Removes content until at most `limit` bytes are left, what was not used for longest first; then what names content that is not here any
    /// more, and what writers that were killed left behind.
    pub fn prune(&self, limit: u64) -> Removed {
        let removed = self.make_room(limit);
        self.forget_what_is_gone();
        self.remove_abandoned();
        removed
    }

    /// The same after a write, when most often nothing has to go: then no reference is read.
    pub(super) fn keep_bound(&self, limit: u64) -> Removed {
        let removed = self.make_room(limit);
        if removed.files > 0 {
            self.forget_what_is_gone();
        }
        self.remove_abandoned();
        removed
    }

    fn make_room(&self, limit: u64) -> Removed {
        let mut blobs = self.blobs();
        blobs.sort_by_key(|blob| blob.last);
        let mut left: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        let mut removed = Removed::default();
        for blob in blobs {
            if left <= limit {
                break;
            }
            left -= blob.bytes;
            // Another process may have been faster.
            if fs::remove_file(&blob.path).is_ok() {
                removed.files += 1;
                removed.bytes += blob.bytes;
            }
        }
        removed
    }

    fn forget_what_is_gone(&self) {
        let mut modules = BTreeSet::new();
        for (path, resolved) in self.references() {
            if self.holds(&resolved) {
                modules.insert(self.package_path(&resolved.package_key()));
            } else {
                let _ = fs::remove_file(path);
            }
        }
        for entry in entries(&self.root.join(PACKAGES)) {
            if !modules.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn remove_abandoned(&self) {
        for entry in entries(&self.root.join(TEMPORARY)) {
            let age = entry
                .metadata()
                .ok()
                .and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn references(&self) -> impl Iterator<Item = (PathBuf, Resolved)> {
        entries(&self.root.join(REFERENCES))
            .filter_map(|entry| Some((entry.path(), read_json(&entry.path())?)))
    }

    fn blobs(&self) -> Vec<Used> {
        let algorithms = entries(&self.root.join(BLOBS));
        let files = algorithms
            .flat_map(|algorithm| entries(&algorithm.path()))
            .flat_map(|first| entries(&first.path()));
        let used = |file: DirEntry| {
            let metadata = file.metadata().ok().filter(Metadata::is_file)?;
            Some(Used {
                path: file.path(),
                bytes: metadata.len(),
                last: metadata.modified().ok()?,
            })
        };
        files.filter_map(used).collect()
    }
}

/// What cannot be read is not there.
fn entries(directory: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::remembered;

    /// Stores `content` under a reference, last used `age` seconds ago.
    fn put(store: &Store, name: &str, content: &[u8], age: u64) -> Resolved {
        let resolved = remembered(store, &format!("ghcr.io/a/{name}:1"), content);
        let used = SystemTime::now() - Duration::from_secs(age);
        fs::File::open(store.blob_path(&resolved.artifact))
            .unwrap()
            .set_modified(used)
            .unwrap();
        resolved
    }

    fn names(store: &Store) -> Vec<String> {
        store
            .list()
            .into_iter()
            .map(|stored| stored.reference.to_string())
            .collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        put(&store, "old", &[1; 40], 200);
        let read = put(&store, "read", &[2; 40], 300);
        put(&store, "new", &[3; 40], 100);
        assert!(
            store.read(&read.artifact, 100).is_some(),
            "reading is using"
        );
        assert_eq!(store.prune(120), Removed::default());
        assert_eq!(
            store.prune(80),
            Removed {
                files: 1,
                bytes: 40
            }
        );
        assert_eq!(
            (names(&store), store.bytes()),
            (
                vec![
                    "oci://ghcr.io/a/new:1".to_owned(),
                    "oci://ghcr.io/a/read:1".to_owned()
                ],
                80
            )
        );
        assert_eq!(store.prune(0).files, 2);
        assert!(names(&store).is_empty());
    }

    #[test]
    fn a_bounded_store_makes_room_for_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path()).bounded(100);
        put(&store, "a", &[1; 40], 300);
        put(&store, "b", &[2; 40], 200);
        put(&store, "c", &[3; 40], 100);
        assert_eq!(
            names(&store),
            ["oci://ghcr.io/a/b:1", "oci://ghcr.io/a/c:1"]
        );
    }

    #[test]
    fn what_killed_writers_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        put(&store, "a", b"a", 0);
        let old = directory.path().join("tmp/old");
        let young = directory.path().join("tmp/young");
        fs::write(&young, b"").unwrap();
        fs::File::create(&old)
            .unwrap()
            .set_modified(SystemTime::now() - ABANDONED * 2)
            .unwrap();
        store.prune(u64::MAX);
        assert_eq!(
            (old.exists(), young.exists(), names(&store).len()),
            (false, true, 1)
        );
    }
}
