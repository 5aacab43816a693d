//! The content of the store, and eviction: the least recently used content is removed first.
//!
//! The modification time of a file is the time of its last use. Content may be removed at any time,
//! also by another process: a reader with the open file can finish, and other readers download the
//! content again.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::{BLOBS, PACKAGES, REFERENCES, Store, TEMPORARY, read_json};
use crate::{Digest, Reference, Resolved};

/// The age at which a file in `tmp` is removed. No download takes this long, so the process that
/// wrote the file was killed.
const ABANDONED: Duration = Duration::from_hours(1);

/// A reference in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The reference, serialised without secrets.
    #[serde(serialize_with = "redacted")]
    pub reference: Reference,
    /// The digest of the artifact that the reference resolved to.
    pub artifact: Digest,
    /// The size of the content on disk, in bytes. References with the same content share it.
    pub bytes: u64,
    /// Whether the store has all parts.
    pub complete: bool,
}

fn redacted<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&reference.redacted())
}

/// The amount of content that was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The number of files.
    pub files: u64,
    /// The size of the files, in bytes.
    pub bytes: u64,
}

/// A file with the last result for a reference.
struct ReferenceFile {
    path: PathBuf,
    resolved: Resolved,
}

/// A file of content.
struct Blob {
    path: PathBuf,
    bytes: u64,
    last_used: SystemTime,
}

impl Store {
    /// The references, sorted by name. A reference that was resolved with different Secrets is
    /// listed once for each.
    pub fn list(&self) -> Vec<Stored> {
        let mut list: Vec<Stored> = self
            .references()
            .map(|file| self.describe(file.resolved))
            .collect();
        list.sort_by_cached_key(|stored| stored.reference.to_string());
        list
    }

    fn describe(&self, resolved: Resolved) -> Stored {
        let parts = &resolved.parts;
        let files: Vec<_> = parts
            .iter()
            .filter_map(|part| self.blob_path(&part.digest).metadata().ok())
            .collect();
        Stored {
            bytes: files.iter().map(Metadata::len).sum(),
            complete: files.len() == parts.len(),
            reference: resolved.reference,
            artifact: resolved.artifact,
        }
    }

    /// The total size of the content, in bytes.
    pub fn bytes(&self) -> u64 {
        self.blobs().iter().map(|blob| blob.bytes).sum()
    }

    /// Removes the least recently used content until at most `limit` bytes are left. Then removes
    /// references and packages without content, and files that killed writers left in `tmp`.
    pub fn prune(&self, limit: u64) -> Removed {
        let removed = self.evict(limit);
        self.remove_dangling();
        self.remove_abandoned();
        removed
    }

    /// Enforces the limit after a write. Unlike [`prune`](Self::prune), this reads the references
    /// only if content was removed.
    pub(super) fn enforce_limit(&self, limit: u64) -> Removed {
        let removed = self.evict(limit);
        if removed.files > 0 {
            self.remove_dangling();
        }
        self.remove_abandoned();
        removed
    }

    /// Removes the least recently used content until at most `limit` bytes are left.
    fn evict(&self, limit: u64) -> Removed {
        let mut blobs = self.blobs();
        blobs.sort_by_key(|blob| blob.last_used);
        let mut left: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        let mut removed = Removed::default();
        for blob in blobs {
            if left <= limit {
                break;
            }
            left -= blob.bytes;
            // Another process may have removed the file.
            if fs::remove_file(&blob.path).is_ok() {
                if let Some(digest) = digest_of(&blob.path) {
                    self.revoke(&digest);
                }
                removed.files += 1;
                removed.bytes += blob.bytes;
            }
        }
        removed
    }

    /// Removes references whose content is not in the store, and packages without a reference.
    fn remove_dangling(&self) {
        let mut packages = BTreeSet::new();
        for file in self.references() {
            if self.holds(&file.resolved) {
                packages.insert(self.package_path(&file.resolved.package_key()));
            } else {
                let _ = fs::remove_file(file.path);
            }
        }
        for entry in entries(&self.root.join(PACKAGES)) {
            if !packages.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Removes the files of killed writers.
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

    fn references(&self) -> impl Iterator<Item = ReferenceFile> {
        entries(&self.root.join(REFERENCES)).filter_map(|entry| {
            let path = entry.path();
            let resolved = read_json(&path)?;
            Some(ReferenceFile { path, resolved })
        })
    }

    /// The files of all content.
    pub(super) fn blob_paths(&self) -> Vec<PathBuf> {
        self.blobs().into_iter().map(|blob| blob.path).collect()
    }

    fn blobs(&self) -> Vec<Blob> {
        let algorithms = entries(&self.root.join(BLOBS));
        let files = algorithms
            .flat_map(|algorithm| entries(&algorithm.path()))
            .flat_map(|first| entries(&first.path()));
        let blob = |file: DirEntry| {
            let metadata = file.metadata().ok().filter(Metadata::is_file)?;
            Some(Blob {
                path: file.path(),
                bytes: metadata.len(),
                last_used: metadata.modified().ok()?,
            })
        };
        files.filter_map(blob).collect()
    }
}

/// The digest of the content in a file: its name, and the name of the algorithm's directory.
pub(super) fn digest_of(blob: &Path) -> Option<Digest> {
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let algorithm = name(blob.parent()?.parent()?)?;
    format!("{algorithm}:{}", name(blob)?).parse().ok()
}

/// The entries of a directory. A directory that cannot be read has none.
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
    fn the_least_recently_used_content_is_removed_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        put(&store, "old", &[1; 40], 200);
        let read = put(&store, "read", &[2; 40], 300);
        put(&store, "new", &[3; 40], 100);
        assert!(
            store.read(&read.artifact, 100).is_some(),
            "reading counts as use"
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
            names(&store),
            ["oci://ghcr.io/a/new:1", "oci://ghcr.io/a/read:1"]
        );
        assert_eq!(store.bytes(), 80);
        assert_eq!(store.prune(0).files, 2);
        assert!(names(&store).is_empty());
    }

    #[test]
    fn a_write_to_a_full_store_removes_the_oldest_content() {
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
    fn files_of_killed_writers_are_removed() {
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
        assert!(!old.exists());
        assert!(young.exists());
        assert_eq!(names(&store).len(), 1);
    }
}
