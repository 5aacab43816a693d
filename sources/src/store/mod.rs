//! The store: a content-addressed store on disk.
//!
//! ```text
//! <root>/blobs-v1/sha256/ab/abcdef…      content, named by its digest, read-only
//! <root>/references-v4/<sha256>.json     the last `Resolved` of a reference
//! <root>/packages-v1/<sha256>.json       the `Package` in some content
//! <root>/grants-v1/sha256/abcdef…/       the namespaces that may use the content (`grants.rs`)
//! <root>/tmp/                            files that are being written
//! ```
//!
//! A file in `references-v4` is named by the hash of the reference, and of the namespace and
//! Secrets of the requester. What the operator has pulled or imported has neither. A file in
//! `packages-v1` is named by `Resolved::package_key`.
//!
//! - **Atomic writes.** A file is written in `tmp` and renamed when it is complete. A crash leaves
//!   no incomplete content, and two processes may write the same content at once.
//! - **Verified reads.** Content is hashed again when it is read. Content that changed on disk is
//!   removed, and the caller downloads it again.
//! - **Eviction.** With a limit, the least recently used content is removed (`usage.rs`).
//!
//! All methods block. Async callers use a thread for blocking work.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempDir};

use crate::digest::{Algorithm, Hasher};
use crate::unpack::Content;
use crate::{Digest, Ephemeral, Error, ErrorKind, Package, Reference, Requester, Resolved};

mod export;
mod grants;
pub mod usage;

const BLOBS: &str = "blobs-v1";
const REFERENCES: &str = "references-v4";
const PACKAGES: &str = "packages-v1";
const TEMPORARY: &str = "tmp";
/// The largest content that is read into memory, in bytes. Larger content is read from its file.
const IN_MEMORY: u64 = 16 << 20;
/// The size of the buffer for hashing a file, in bytes.
const CHUNK: usize = 256 << 10;

/// The store of modules. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// The largest total size of the content, in bytes.
    limit: u64,
}

impl Store {
    /// The store in the directory `root`. The directory is created with the first write.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limit: u64::MAX,
        }
    }

    /// The store with a limit. After each write, the least recently used content is removed until
    /// at most `limit` bytes are left.
    #[must_use]
    pub fn bounded(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that the store can be written.
    pub fn check(&self) -> Result<(), Error> {
        self.temporary()
            .map(drop)
            .map_err(|error| self.failed(error))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join(BLOBS)
            .join(digest.algorithm().name())
            .join(&digest.hex()[..2])
            .join(digest.hex())
    }

    /// The file for the last result of a reference. A result is found again only by the same
    /// namespace with the same Secrets: another requester must prove to the origin that it has
    /// access.
    fn reference_path(&self, reference: &Reference, requester: &Requester) -> PathBuf {
        let name = if *requester == Requester::default() {
            reference.to_string()
        } else {
            let Requester { namespace, secrets } = requester;
            format!("{reference}\0{namespace}\0{}", secrets.join("\0"))
        };
        let name = Digest::of(name.as_bytes());
        self.root
            .join(REFERENCES)
            .join(format!("{}.json", name.hex()))
    }

    /// The content with this digest. `None` if the store does not have it, or if it is larger than
    /// `max_bytes`. Content that changed on disk is removed and not returned.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Option<Bytes> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() > max_bytes {
            return None;
        }
        // The modification time is the time of the last use. If it cannot be set, the time of
        // writing stays.
        let _ = file.set_modified(SystemTime::now());
        file.take(max_bytes).read_to_end(&mut bytes).ok()?;
        if digest.of_same_kind(&bytes) == *digest {
            return Some(bytes.into());
        }
        remove_corrupt(&path);
        None
    }

    /// Opens the content with this digest, as [`read`](Self::read) does. Large content stays in its
    /// file.
    pub(crate) fn open(&self, digest: &Digest, max_bytes: u64) -> Option<Content> {
        let path = self.blob_path(digest);
        let mut file = File::open(&path).ok()?;
        let length = file.metadata().ok()?.len();
        if length <= IN_MEMORY {
            return self.read(digest, max_bytes).map(Content::Memory);
        }
        let _ = file.set_modified(SystemTime::now());
        let mut hasher = digest.hasher();
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).ok()? {
                0 => break,
                count => hasher.update(&chunk[..count]),
            }
        }
        if hasher.finish() == *digest {
            return (length <= max_bytes).then_some(Content::File(file));
        }
        remove_corrupt(&path);
        None
    }

    /// Whether the store has content with this digest. The content is not verified.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Starts writing content that must have the digest `expected`, if there is one. `namespace`
    /// may use the content; the empty text stands for the operator, whose content is for all.
    pub fn writer(&self, expected: Option<&Digest>, namespace: &str) -> Result<Writer, Error> {
        let file = self.temporary().map_err(|error| self.failed(error))?;
        let hasher = expected.map_or_else(|| Hasher::new(Algorithm::Sha256), Digest::hasher);
        Ok(Writer {
            store: self.clone(),
            file,
            expected: expected.cloned(),
            namespace: namespace.to_owned(),
            hasher,
            written: 0,
        })
    }

    /// The last result for `reference`: of the requester or of the operator, whichever is newer.
    pub fn resolved(&self, reference: &Reference, requester: &Requester) -> Option<Resolved> {
        let operator = Requester::default();
        let results = [requester, &operator].into_iter();
        let results = results.filter_map(|requester| {
            let path = self.reference_path(reference, requester);
            let resolved: Resolved = read_json(&path)?;
            let written = path.metadata().ok()?.modified().ok()?;
            (resolved.reference == *reference).then_some((written, resolved))
        });
        let newest = results.max_by_key(|(written, _)| *written);
        newest.map(|(_, resolved)| resolved)
    }

    /// Whether the store has all parts of a result. The content is not verified.
    pub fn holds(&self, resolved: &Resolved) -> bool {
        resolved
            .parts
            .iter()
            .all(|part| self.contains(&part.digest))
    }

    /// Marks the parts as used now. A compiled module is used without reading its parts, so reading
    /// alone would not show the use.
    pub(crate) fn touch(&self, resolved: &Resolved) {
        for part in &resolved.parts {
            let _ = File::open(self.blob_path(&part.digest))
                .and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Stores the result for a reference.
    pub fn remember(&self, resolved: &Resolved, requester: &Requester) -> Result<(), Error> {
        self.write_json(
            &self.reference_path(&resolved.reference, requester),
            resolved,
        )
    }

    /// Removes the result for a reference: the result is out of date, and the new one must not be
    /// stored.
    pub fn forget(&self, reference: &Reference, requester: &Requester) -> Result<(), Error> {
        match fs::remove_file(self.reference_path(reference, requester)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// The package with this [`package_key`](Resolved::package_key), if the store has it.
    pub fn package(&self, key: &Digest) -> Option<Package> {
        read_json(&self.package_path(key))
    }

    /// Stores a package under its [`package_key`](Resolved::package_key).
    pub fn remember_package(&self, key: &Digest, package: &Package) -> Result<(), Error> {
        self.write_json(&self.package_path(key), package)
    }

    fn package_path(&self, key: &Digest) -> PathBuf {
        self.root.join(PACKAGES).join(format!("{}.json", key.hex()))
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let mut file = self.temporary()?;
            file.write_all(&serde_json::to_vec(value)?)?;
            make_private(path.parent().unwrap_or(&self.root))?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|error| self.failed(error))
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        let directory = self.root.join(TEMPORARY);
        make_private(&directory)?;
        NamedTempFile::new_in(directory)
    }

    fn temporary_directory(&self) -> io::Result<TempDir> {
        let directory = self.root.join(TEMPORARY);
        make_private(&directory)?;
        TempDir::new_in(directory)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Store,
            format!(
                "the cache directory `{}` cannot be written: {error}",
                self.root.display()
            ),
        )
        .with_hint("choose another directory with --cache-dir, or make this one writable")
        .caused_by(error)
    }
}

/// Removes content that changed on disk.
fn remove_corrupt(path: &Path) {
    tracing::warn!(
        path = %path.display(),
        "stored content does not have its digest; it is removed and downloaded again"
    );
    let _ = fs::remove_file(path);
}

/// Reads a JSON file. `None` if the file cannot be read or is malformed.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Creates a directory and its parents, with access for this user only.
fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Writes and hashes content. Without [`Writer::commit`], dropping the writer removes the content.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    file: NamedTempFile,
    expected: Option<Digest>,
    namespace: String,
    hasher: Hasher,
    written: u64,
}

impl Writer {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(|error| self.store.failed(error))
    }

    /// The number of bytes that were added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The content in an unlinked file, which is not in the store.
    pub(crate) fn into_unlinked_file(self) -> UnlinkedFile {
        UnlinkedFile {
            digest: self.hasher.finish(),
            content: Ephemeral::new(self.file.into_file()),
        }
    }

    /// Verifies the expected digest, if there is one, and moves the content into the store. Readers
    /// see the content only after this call.
    ///
    /// # Errors
    ///
    /// The content does not have the expected digest, or the store cannot be written.
    pub fn commit(self) -> Result<Digest, Error> {
        let Self {
            store,
            file,
            expected,
            namespace,
            hasher,
            ..
        } = self;
        let digest = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(mismatch(&expected, &digest));
        }
        let persist = || -> io::Result<()> {
            store.grant(&digest, &namespace)?;
            file.as_file().sync_all()?;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(0o444))?;
            let path = store.blob_path(&digest);
            make_private(path.parent().unwrap_or(&store.root))?;
            file.persist(path)?;
            Ok(())
        };
        persist().map_err(|error| store.failed(error))?;
        if store.limit < u64::MAX {
            let removed = store.enforce_limit(store.limit);
            if removed.files > 0 {
                tracing::info!(
                    files = removed.files,
                    bytes = removed.bytes,
                    "the store was full: the least recently used content was removed"
                );
            }
        }
        Ok(digest)
    }
}

/// Content that must not be stored, and its digest.
#[derive(Debug)]
pub(crate) struct UnlinkedFile {
    pub(crate) digest: Digest,
    pub(crate) content: Ephemeral,
}

/// The error for content that does not have the expected digest.
pub(crate) fn mismatch(expected: &Digest, actual: &Digest) -> Error {
    Error::new(
        ErrorKind::DigestMismatch,
        format!("expected content with digest `{expected}`, got `{actual}`"),
    )
    .with_hint(
        "check the digest; if the digest is correct, the content was changed at the origin or \
         during the transfer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Part;

    /// Stores `content` under `reference`.
    pub(super) fn remembered(store: &Store, reference: &str, content: &[u8]) -> Resolved {
        let digest = Digest::of(content);
        put(store, &digest, content).unwrap();
        let part = Part {
            digest: digest.clone(),
            size: None,
            media_type: None,
        };
        let resolved = Resolved::file(reference.parse::<Reference>().unwrap(), digest, part);
        store.remember(&resolved, &Requester::default()).unwrap();
        resolved
    }

    fn put(store: &Store, expected: &Digest, bytes: &[u8]) -> Result<(), Error> {
        let mut writer = store.writer(Some(expected), "")?;
        writer.write(bytes)?;
        writer.commit().map(drop)
    }

    #[test]
    fn content_is_stored_by_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("a/b"));
        let digest = Digest::of(b"hello");
        assert!(store.read(&digest, 10).is_none());
        put(&store, &digest, b"hello").unwrap();
        assert_eq!(store.read(&digest, 10).unwrap(), &b"hello"[..]);
        assert!(
            store.read(&digest, 3).is_none(),
            "the content is larger than the limit of the caller"
        );
        put(&store, &digest, b"hello").unwrap();
    }

    #[test]
    fn content_with_a_wrong_digest_is_not_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = Digest::of(b"hello");
        assert_eq!(
            put(&store, &digest, b"hullo").unwrap_err().kind(),
            ErrorKind::DigestMismatch
        );
        assert!(!store.contains(&digest));
        assert_eq!(
            fs::read_dir(directory.path().join("tmp")).unwrap().count(),
            0
        );
    }

    #[test]
    fn content_that_changed_on_disk_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let digest = Digest::of(b"hello");
        put(&store, &digest, b"hello").unwrap();
        let path = store.blob_path(&digest);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, b"hexxo").unwrap();
        assert!(store.read(&digest, 10).is_none());
        assert!(!store.contains(&digest));
    }

    #[test]
    fn the_error_of_an_unwritable_store_names_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Store::new(&file).writer(None, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(file.to_str().unwrap()));
    }
}
