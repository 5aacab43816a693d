//! Transfers of files, directories and archives between a store and the directory of a step.
//! Hostile archives are refused, and leave nothing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod hostile_archives;
mod limits;
mod links;
mod odd_archives;
mod other_programs;
mod round_trips;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use wasm_workflow_artifacts::archive::{Pack, Unpack};
use wasm_workflow_artifacts::quota::{Bounds, Quota};
use wasm_workflow_artifacts::transfer::{Download, Upload, Uploaded, download, upload};
use wasm_workflow_artifacts::{DirectoryStore, Error};

const LIMIT: u64 = 2 << 20;
const BOUNDS: Bounds = Bounds {
    bytes: LIMIT,
    entries: 100,
};

struct Fixture {
    step: tempfile::TempDir,
    root: Arc<Dir>,
    stored: tempfile::TempDir,
    store: DirectoryStore,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let step = tempfile::tempdir().unwrap();
        let stored = tempfile::tempdir().unwrap();
        let root = Arc::new(Dir::open_ambient_dir(step.path(), ambient_authority()).unwrap());
        let store = DirectoryStore::open(stored.path()).await.unwrap();
        Self {
            step,
            root,
            stored,
            store,
        }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.step.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    pub(crate) async fn upload(
        &self,
        key: &str,
        path: &str,
        pack: Pack,
    ) -> Result<Uploaded, Error> {
        upload(&self.store, Upload { key, path, pack }, &self.root, LIMIT).await
    }

    pub(crate) async fn download(
        &self,
        key: &str,
        path: &str,
        unpack: Unpack,
    ) -> Result<(), Error> {
        download(
            &self.store,
            &Download {
                key,
                path,
                seen_at: "/work/in",
                unpack,
                mode: None,
            },
            &self.root,
            &Quota::new(BOUNDS),
        )
        .await
    }

    /// Stores these bytes as an object, and downloads the object.
    pub(crate) async fn fetch(&self, bytes: &[u8], unpack: Unpack) -> Result<(), Error> {
        fs::write(self.stored.path().join("object"), bytes).unwrap();
        self.download("object", "in", unpack).await
    }

    /// All paths in the directory of the step.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![self.step.path().to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                found.push(
                    entry
                        .path()
                        .strip_prefix(self.step.path())
                        .unwrap()
                        .display()
                        .to_string(),
                );
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// A gzipped tar archive. An entry is a name, a type, and the content or the target of the link.
fn tar_gz(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        // The crate refuses to write names that lead out of the archive.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_entry_type(*kind);
        if matches!(kind, EntryType::Regular) {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        } else {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
        }
    }
    builder.into_inner().unwrap().finish().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD_LINK: EntryType = EntryType::Link;
const DIRECTORY: EntryType = EntryType::Directory;
