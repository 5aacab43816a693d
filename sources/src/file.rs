//! Modules in files of this machine.
//!
//! The command line may read any file. A server reads files below one directory only: the directory
//! that the operator sets with `sources.fileRoot`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use net::Body;

use crate::reference::FileReference;
use crate::source::{Context, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Resolved};

/// The files that references may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// No file. The files of a server include its tokens.
    Denied,
    /// The files below this directory.
    Below(PathBuf),
    /// Any file: for the command line, whose user can read the files without this program.
    Any,
}

/// The source of `file://` references.
#[derive(Clone, Debug)]
pub struct FileSource {
    access: Access,
    max_bytes: u64,
}

impl FileSource {
    /// A source of the files that `access` allows. A file may have at most `max_bytes`.
    pub fn new(access: Access, max_bytes: u64) -> Self {
        Self { access, max_bytes }
    }

    async fn read(&self, reference: &FileReference) -> Result<Vec<u8>, Error> {
        let source = self.clone();
        let path = reference.path().to_owned();
        let read = tokio::task::spawn_blocking(move || source.read_blocking(&path)).await;
        read.unwrap_or_else(|error| {
            let message = "the task that reads the file panicked; this is a defect of this program";
            Err(Error::new(ErrorKind::Store, message).caused_by(error))
        })
    }

    fn read_blocking(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let real = self.real_path(path)?;
        let failed = |error| unreadable(path, error);
        let file = File::open(&real).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            let message = format!("`{}` is not a file", path.display());
            return Err(Error::new(ErrorKind::InvalidReference, message));
        }
        let mut bytes = Vec::new();
        file.take(self.max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > self.max_bytes {
            let limit = self.max_bytes;
            let message = format!("`{}` is larger than {limit} bytes", path.display());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        Ok(bytes)
    }

    /// The path without links, if `access` allows it. Links are resolved before the check, so that
    /// the checked file is the file that is opened.
    fn real_path(&self, path: &Path) -> Result<PathBuf, Error> {
        match &self.access {
            Access::Denied => Err(Error::new(
                ErrorKind::Denied,
                "modules from files are not allowed here",
            )
            .with_hint(
                "ask the operator to set `sources.fileRoot` to the directory of the modules",
            )),
            Access::Any => path.canonicalize().map_err(|error| unreadable(path, error)),
            Access::Below(root) => real_path_below(root, path),
        }
    }
}

/// The path without links, if it is below `root`.
fn real_path_below(root: &Path, path: &Path) -> Result<PathBuf, Error> {
    let real_root = root.canonicalize().map_err(|error| {
        let message = format!("the directory `{}` cannot be read: {error}", root.display());
        Error::new(ErrorKind::InvalidConfig, message)
            .with_hint("ask the operator to correct `sources.fileRoot`")
    })?;
    // The path is checked as text first. The error must not tell the requester whether a file
    // outside the directory exists.
    let has_parent = path
        .components()
        .any(|component| component == Component::ParentDir);
    if has_parent || (!path.starts_with(root) && !path.starts_with(&real_root)) {
        let message = format!(
            "`{}` is outside the directory `sources.fileRoot`",
            path.display()
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    let real = path
        .canonicalize()
        .ok()
        .filter(|real| real.starts_with(&real_root));
    real.ok_or_else(|| {
        let message = format!(
            "there is no file `{}` in the directory `sources.fileRoot`",
            path.display()
        );
        Error::new(ErrorKind::NotFound, message)
    })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let converted = if error.kind() == io::ErrorKind::NotFound {
        Error::new(ErrorKind::NotFound, format!("there is no file `{path}`"))
    } else {
        let message = format!("`{path}` cannot be read: {error}");
        Error::new(ErrorKind::Store, message)
    };
    converted.caused_by(error)
}

#[async_trait]
impl Source for FileSource {
    type Reference = FileReference;

    fn server(&self, _: &FileReference) -> Option<String> {
        None
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn resolve(
        &self,
        reference: &FileReference,
        _stored: Option<&Resolved>,
        _context: &Context<'_>,
    ) -> Result<Resolution, Error> {
        let bytes = self.read(reference).await?;
        let digest = Digest::of(&bytes);
        let part = Part {
            digest: digest.clone(),
            size: Some(bytes.len() as u64),
            media_type: None,
        };
        Ok(Resolved::file(reference.clone(), digest, part).into())
    }

    async fn open_unverified(
        &self,
        origin: &FileReference,
        _part: &Part,
        _context: &Context<'_>,
    ) -> Result<Body, Error> {
        let bytes = self.read(origin).await?;
        Ok(Bytes::from(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(access: Access, path: &Path) -> Result<usize, ErrorKind> {
        FileSource::new(access, 100)
            .read_blocking(path)
            .map(|bytes| bytes.len())
            .map_err(|error| error.kind())
    }

    #[test]
    fn only_files_below_the_directory_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        let outside = directory.path().join("outside.wasm");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("in.wasm"), b"abc").unwrap();
        std::fs::write(&outside, b"secret").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link.wasm")).unwrap();
        let below = Access::Below(root.clone());
        assert_eq!(kind(below.clone(), &root.join("in.wasm")), Ok(3));
        assert_eq!(
            kind(below.clone(), &root.join("link.wasm")),
            Err(ErrorKind::NotFound)
        );
        assert_eq!(
            kind(below.clone(), &root.join("../outside.wasm")),
            Err(ErrorKind::Denied)
        );
        assert_eq!(kind(below.clone(), &outside), Err(ErrorKind::Denied));
        assert_eq!(
            kind(below.clone(), &directory.path().join("nothing.wasm")),
            Err(ErrorKind::Denied)
        );
        assert_eq!(
            kind(below.clone(), &root.join("none.wasm")),
            Err(ErrorKind::NotFound)
        );
        assert_eq!(kind(below, &root), Err(ErrorKind::InvalidReference));
        assert_eq!(kind(Access::Denied, &outside), Err(ErrorKind::Denied));
        assert_eq!(kind(Access::Any, &outside), Ok(6));
    }

    #[test]
    fn large_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large.wasm");
        std::fs::write(&path, vec![0; 101]).unwrap();
        assert_eq!(kind(Access::Any, &path), Err(ErrorKind::TooLarge));
    }
}
