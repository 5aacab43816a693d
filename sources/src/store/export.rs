//! Export and import: carries content to a machine without access to registries.
//!
//! The file is a tar archive. `references.json` is a list of [`Resolved`], and each part of them is
//! in `blobs/ALGORITHM/HEX`. The import verifies the digests of the content. It trusts the file
//! about which reference has which digests.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use untrusted_tar::{Bounds, Kind, TarReader};

use super::Store;
use crate::{Digest, Error, ErrorKind, Requester, Resolved};

const REFERENCES: &str = "references.json";
const MAX_REFERENCES_BYTES: u64 = 16 << 20;
/// The most entries of a file: more than the store can usefully have.
const MAX_ENTRIES: u64 = 1_000_000;
/// The size of the buffer for copying, in bytes.
const CHUNK: usize = 1 << 20;

impl Store {
    /// Writes these results and their content into `file`.
    pub fn export(&self, resolved: &[Resolved], file: &Path) -> Result<(), Error> {
        let failed = |error: io::Error| unwritable(file, &error);
        let directory = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        let mut archive = tar::Builder::new(BufWriter::new(temporary));
        let references = serde_json::to_vec(resolved).map_err(|error| failed(error.into()))?;
        append(
            &mut archive,
            REFERENCES,
            references.len() as u64,
            references.as_slice(),
        )
        .map_err(failed)?;
        let digests: BTreeSet<&Digest> = resolved
            .iter()
            .flat_map(|resolved| &resolved.parts)
            .map(|part| &part.digest)
            .collect();
        for digest in digests {
            let gone = |error| self.failed(error);
            let content = File::open(self.blob_path(digest)).map_err(gone)?;
            let size = content.metadata().map_err(gone)?.len();
            append(&mut archive, &blob_name(digest), size, content).map_err(failed)?;
        }
        let buffered = archive.into_inner().map_err(failed)?;
        let temporary = buffered
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        temporary
            .persist(file)
            .map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Reads a file of [`Store::export`] into the store. Returns the results in the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is malformed, content does not have its digest, or content is
    /// larger than `max_bytes`.
    pub fn import(&self, file: &Path, max_bytes: u64) -> Result<Vec<Resolved>, Error> {
        let opened = File::open(file).map_err(|error| {
            let message = format!("`{}` cannot be imported: {error}", file.display());
            Error::new(ErrorKind::Store, message)
                .with_hint("check the path and the permissions of the file")
                .caused_by(error)
        })?;
        let mut references: Vec<Resolved> = Vec::new();
        let bounds = Bounds {
            entries: MAX_ENTRIES,
            archive_bytes: u64::MAX,
            content_bytes: u64::MAX,
        };
        let read = TarReader::new(BufReader::new(opened), bounds).for_each(|entry| {
            let name = entry.path()?;
            // Programs that pack the files again add the directories.
            if entry.kind() == Kind::Directory {
                return Ok(());
            }
            if name == REFERENCES {
                references = read_references(entry, file)?;
            } else {
                let digest = blob_digest(&name).ok_or_else(|| {
                    unreadable(file, &format!("it has the unknown entry `{name}`"))
                })?;
                self.import_blob(&digest, entry, max_bytes, file)?;
            }
            Ok::<(), ImportError>(())
        });
        read.map_err(|error| match error {
            ImportError::Archive(error) => malformed(file, error.into()),
            ImportError::Import(error) => error,
        })?;
        for resolved in &references {
            self.accept(resolved, file)?;
        }
        Ok(references)
    }

    /// Remembers an imported result, if all its parts are in the store.
    fn accept(&self, resolved: &Resolved, file: &Path) -> Result<(), Error> {
        if !resolved.is_consistent() {
            let shown = resolved.reference.redacted();
            return Err(unreadable(
                file,
                &format!("the content for `{shown}` does not have the digest in the reference"),
            ));
        }
        if !self.holds(resolved) {
            return Err(unreadable(
                file,
                &format!("a part of `{}` is missing", resolved.reference.redacted()),
            ));
        }
        // The import does not trust the file about verified signatures and cache freshness.
        let caching = resolved.caching.validators_only();
        self.remember(
            &Resolved {
                signed: None,
                caching,
                ..resolved.clone()
            },
            &Requester::default(),
        )
    }

    /// Stores one part of at most `max_bytes`, and verifies its digest.
    fn import_blob(
        &self,
        digest: &Digest,
        content: &mut impl Read,
        max_bytes: u64,
        file: &Path,
    ) -> Result<(), Error> {
        let mut writer = self.writer(Some(digest), "")?;
        let mut content = content.take(max_bytes.saturating_add(1));
        let mut chunk = vec![0; CHUNK];
        let mut total = 0;
        loop {
            let length = content
                .read(&mut chunk)
                .map_err(|error| malformed(file, error))?;
            total += length as u64;
            if total > max_bytes {
                let message = format!(
                    "`{}` in `{}` is larger than {max_bytes} bytes",
                    blob_name(digest),
                    file.display()
                );
                return Err(Error::new(ErrorKind::TooLarge, message)
                    .with_hint("raise `sources.maxModuleSize`"));
            }
            match length {
                0 => return writer.commit().map(drop),
                length => writer.write(&chunk[..length])?,
            }
        }
    }
}

/// Why an entry of the file is not imported.
enum ImportError {
    /// The file is not a valid archive.
    Archive(untrusted_tar::Error),
    /// The entry is refused, or cannot be stored.
    Import(Error),
}

impl From<untrusted_tar::Error> for ImportError {
    fn from(error: untrusted_tar::Error) -> Self {
        Self::Archive(error)
    }
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        Self::Import(error)
    }
}

/// Reads the list of references from its entry.
fn read_references(entry: &mut impl Read, file: &Path) -> Result<Vec<Resolved>, Error> {
    let mut bytes = Vec::new();
    entry
        .take(MAX_REFERENCES_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| malformed(file, error))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| unreadable(file, &format!("`{REFERENCES}` is malformed")).caused_by(error))
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &str,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn blob_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The error for a file that cannot be read as a tar archive. The text of an error about the
/// format is not shown, because it quotes content of the file.
fn malformed(file: &Path, error: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    let what = match error.kind() {
        InvalidData | InvalidInput | Other | UnexpectedEof => {
            "it is not a file of `cache export`, or it is damaged".to_owned()
        }
        _ => error.to_string(),
    };
    unreadable(file, &what).caused_by(error)
}

fn unreadable(file: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("`{}` cannot be imported: {what}", file.display()),
    )
    .with_hint("the file must be written by `cache export`")
}

fn unwritable(file: &Path, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Store,
        format!("`{}` cannot be written: {error}", file.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::remembered;

    #[test]
    fn exported_content_can_be_imported() {
        let directory = tempfile::tempdir().unwrap();
        let from = Store::new(directory.path().join("from"));
        let to = Store::new(directory.path().join("to"));
        let resolved = remembered(&from, "ghcr.io/a/b:1", b"content");
        let file = directory.path().join("modules.tar");
        from.export(std::slice::from_ref(&resolved), &file).unwrap();
        assert_eq!(
            to.import(&file, 100).unwrap(),
            std::slice::from_ref(&resolved)
        );
        assert_eq!(
            to.resolved(&resolved.reference, &Requester::default())
                .unwrap(),
            resolved
        );
        let with_secrets = Requester {
            namespace: "n".to_owned(),
            secrets: vec!["s".to_owned()],
        };
        assert!(
            to.resolved(&resolved.reference, &with_secrets).is_some(),
            "a result of the operator is found with any Secrets"
        );
        assert_eq!(to.read(&resolved.artifact, 100).unwrap(), &b"content"[..]);
        assert_eq!(to.import(&file, 3).unwrap_err().kind(), ErrorKind::TooLarge);
    }

    /// For example with `tar --create --sparse .`, after the file was unpacked.
    #[test]
    fn exported_content_that_was_packed_again_can_be_imported() {
        let directory = tempfile::tempdir().unwrap();
        let from = Store::new(directory.path().join("from"));
        let resolved = remembered(&from, "ghcr.io/a/b:1", b"\0\0\0\0content");
        let file = directory.path().join("modules.tar");
        let mut archive = tar::Builder::new(File::create(&file).unwrap());
        for name in ["./", "./blobs/", "./blobs/sha256/"] {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, name, io::empty()).unwrap();
        }
        let references = serde_json::to_vec(&[&resolved]).unwrap();
        let length = references.len() as u64;
        append(&mut archive, "./references.json", length, &references[..]).unwrap();
        let records = [("GNU.sparse.size", "11"), ("GNU.sparse.map", "4,7")];
        archive
            .append_pax_extensions(records.map(|(key, value)| (key, value.as_bytes())))
            .unwrap();
        let name = format!("./{}", blob_name(&resolved.artifact));
        append(&mut archive, &name, 7, &b"content"[..]).unwrap();
        archive.into_inner().unwrap();
        let to = Store::new(directory.path().join("to"));
        assert_eq!(to.import(&file, 100).unwrap(), [resolved]);
    }

    #[test]
    fn a_malformed_file_imports_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("store"));
        let resolved = remembered(
            &Store::new(directory.path().join("other")),
            "ghcr.io/a/b:1",
            b"content",
        );
        let import = |entries: &[(&str, &[u8])]| {
            let file = directory.path().join("hostile.tar");
            let mut archive = tar::Builder::new(File::create(&file).unwrap());
            for (name, bytes) in entries {
                append(&mut archive, name, bytes.len() as u64, *bytes).unwrap();
            }
            archive.into_inner().unwrap();
            store.import(&file, 100).unwrap_err().kind()
        };
        let name = blob_name(&resolved.artifact);
        let references = serde_json::to_vec(&[&resolved]).unwrap();
        assert_eq!(import(&[(&name, b"other")]), ErrorKind::DigestMismatch);
        assert_eq!(
            import(&[(REFERENCES, &references)]),
            ErrorKind::Store,
            "the content of the reference is missing"
        );
        assert_eq!(import(&[("blobs/sha256/short", b"")]), ErrorKind::Store);
        assert_eq!(import(&[(REFERENCES, b"{}")]), ErrorKind::Store);
        assert!(store.list().is_empty());
    }
}
