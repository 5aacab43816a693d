//! Content on disk, by digest.
//!
//! ```text
//! <root>/blobs-v1/sha256/ab/abcdef…      content; its digest is its name; read-only
//! <root>/references-v4/<sha256>.json     what a reference last resolved to; named by the hash of it and of who asked
//! <root>/packages-v1/<sha256>.json       the module in a package; named by the hash of what it is in
//! <root>/tmp/                            files being written
//! ```
//!
//! Files are written under `tmp` and renamed when they are whole, so that a crash leaves nothing half-written, and two
//! processes that write the same content only repeat each other. Content is hashed again when it is read: a disk is not
//! trusted either. Everything here blocks; callers are on threads that may.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::digest::{Algorithm, Hasher};
use crate::unpack::Content;
use crate::{Digest, Ephemeral, Error, ErrorKind, Package, Reference, Requester, Resolved};

mod export;
pub mod usage;

const BLOBS: &str = "blobs-v1";
const REFERENCES: &str = "references-v4";
const PACKAGES: &str = "packages-v1";
const TEMPORARY: &str = "tmp";
/// Larger content is read as it comes.
const IN_MEMORY: u64 = 16 << 20;
const CHUNK: usize = 256 << 10;

/// The store. Cheap to clone; opening it touches no disk.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    /// The most bytes of content.
    limit: u64,
}

impl Store {
    /// The store in `root`, which is made when something is first written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            limit: u64::MAX,
        }
    }

    /// The same, which after each write removes what was not used for longest until at most `limit` bytes of content are left.
    #[must_use]
    pub fn bounded(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it can be written.
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

    /// What was found with Secrets is found again only with the same ones: others have to show theirs to the origin.
    fn reference_path(&self, reference: &Reference, requester: &Requester) -> PathBuf {
        let name = match requester.secrets.as_slice() {
            [] => reference.to_string(),
            secrets => format!(
                "{reference}\0{}\0{}",
                requester.namespace,
                secrets.join("\0")
            ),
        };
        let name = Digest::of(name.as_bytes());
        self.root
            .join(REFERENCES)
            .join(format!("{}.json", name.hex()))
    }

    /// The content with this digest, if it is here whole. Content that changed on disk is removed, and is a miss.
    pub fn read(&self, digest: &Digest, max_bytes: u64) -> Option<Bytes> {
        let path = self.blob_path(digest);
        let mut bytes = Vec::new();
        let file = File::open(&path).ok()?;
        if file.metadata().ok()?.len() > max_bytes {
            return None;
        }
        // What is used stays longest. Where the time cannot be set, it went by when it was written.
        let _ = file.set_modified(SystemTime::now());
        file.take(max_bytes).read_to_end(&mut bytes).ok()?;
        if digest.of_same_kind(&bytes) == *digest {
            return Some(bytes.into());
        }
        rotten(&path);
        None
    }

    /// The same, in its file where it is large.
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
        rotten(&path);
        None
    }

    /// Whether content with this digest is here, without looking into it.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Starts writing content that must have the digest `expected`, if there is one.
    pub fn writer(&self, expected: Option<&Digest>) -> Result<Writer, Error> {
        let file = self.temporary().map_err(|error| self.failed(error))?;
        let hasher = expected.map_or_else(|| Hasher::new(Algorithm::Sha256), Digest::hasher);
        Ok(Writer {
            store: self.clone(),
            file,
            expected: expected.cloned(),
            hasher,
            written: 0,
        })
    }

    /// What `reference` last resolved to, for those with these Secrets or for all.
    pub fn resolved(&self, reference: &Reference, requester: &Requester) -> Option<Resolved> {
        [requester, &Requester::default()]
            .into_iter()
            .find_map(|requester| {
                let resolved: Resolved = read_json(&self.reference_path(reference, requester))?;
                (resolved.reference == *reference).then_some(resolved)
            })
    }

    /// Whether everything that a reference resolved to is here, without looking into it.
    pub fn holds(&self, resolved: &Resolved) -> bool {
        resolved
            .parts
            .iter()
            .all(|part| self.contains(&part.digest))
    }

    /// Keeps it for longer: a module whose machine code is at hand is used without being read.
    pub(crate) fn touch(&self, resolved: &Resolved) {
        for part in &resolved.parts {
            let _ = File::open(self.blob_path(&part.digest))
                .and_then(|file| file.set_modified(SystemTime::now()));
        }
    }

    /// Remembers what a reference resolved to.
    pub fn remember(&self, resolved: &Resolved, requester: &Requester) -> Result<(), Error> {
        self.write_json(
            &self.reference_path(&resolved.reference, requester),
            resolved,
        )
    }

    /// Remembers nothing of the reference any more: what it was is out of date, and what it is must not be kept.
    pub fn forget(&self, reference: &Reference, requester: &Requester) -> Result<(), Error> {
        match fs::remove_file(self.reference_path(reference, requester)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// What was found in a package.
    pub fn package(&self, key: &Digest) -> Option<Package> {
        read_json(&self.package_path(key))
    }

    /// Remembers what was found in a package.
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

    fn failed(&self, error: io::Error) -> Error {
        Error::new(
            ErrorKind::Store,
            format!(
                "the cache directory `{}` cannot be written: {error}",
                self.root.display()
            ),
        )
        .hint("choose another with --cache-dir, or make it writable for this user")
        .caused_by(error)
    }
}

/// Takes away what changed on the disk.
fn rotten(path: &Path) {
    tracing::warn!(path = %path.display(), "stored content no longer has its digest; fetching it again");
    let _ = fs::remove_file(path);
}

/// What cannot be read is not there.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes a directory, and those above it, for this user alone.
fn make_private(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Content being written and hashed. Dropped without [`Writer::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    file: NamedTempFile,
    expected: Option<Digest>,
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

    /// How many bytes were added.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The content in an unlinked file: it is not visible in the store.
    pub(crate) fn into_unlinked_file(self) -> UnlinkedFile {
        UnlinkedFile {
            digest: self.hasher.finish(),
            content: Ephemeral::new(self.file.into_file()),
        }
    }

    /// Checks the digest, if one was expected, and makes the content visible under it. Nothing is visible before.
    pub fn commit(self) -> Result<Digest, Error> {
        let Self {
            store,
            file,
            expected,
            hasher,
            ..
        } = self;
        let digest = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(mismatch(&expected, &digest));
        }
        let persist = || -> io::Result<()> {
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
            let removed = store.keep_bound(store.limit);
            if removed.files > 0 {
                tracing::info!(
                    files = removed.files,
                    bytes = removed.bytes,
                    "the store was full: what was not used for longest went"
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

/// The error for bytes that are not the ones asked for.
pub(crate) fn mismatch(expected: &Digest, actual: &Digest) -> Error {
    Error::new(
        ErrorKind::DigestMismatch,
        format!("expected content with digest `{expected}`, got `{actual}`"),
    )
    .hint(
        "check the digest; if it is right, the origin, or something before it, changed the content",
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
        let mut writer = store.writer(Some(expected))?;
        writer.write(bytes)?;
        writer.commit().map(drop)
    }

    #[test]
    fn keeps_content_by_digest() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("a/b"));
        let digest = Digest::of(b"hello");
        assert!(store.read(&digest, 10).is_none());
        put(&store, &digest, b"hello").unwrap();
        assert_eq!(store.read(&digest, 10).unwrap(), &b"hello"[..]);
        assert!(store.read(&digest, 3).is_none(), "larger than asked for");
        put(&store, &digest, b"hello").unwrap();
    }

    #[test]
    fn wrong_content_leaves_nothing() {
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
    fn content_that_rots_is_a_miss() {
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
    fn an_unwritable_store_says_where_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Store::new(&file).writer(None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(file.to_str().unwrap()));
    }
}
