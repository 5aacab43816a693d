//! Modules on this machine: for the command line, and for servers under one directory that the operator opened.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use net::Body;

use crate::reference::FileReference;
use crate::source::{Context, Resolution, Source};
use crate::{Digest, Error, ErrorKind, Part, Resolved};

/// Which files may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// None: a server's files hold tokens.
    Denied,
    /// Those below this directory.
    Below(PathBuf),
    /// Any: the person at the command line could read them anyway.
    Any,
}

/// The `file` source.
#[derive(Clone, Debug)]
pub struct FileSource {
    access: Access,
    max_bytes: u64,
}

impl FileSource {
    /// A source of the files that `access` allows, of at most `max_bytes` each.
    pub fn new(access: Access, max_bytes: u64) -> Self {
        Self { access, max_bytes }
    }

    async fn read(&self, reference: &FileReference) -> Result<Vec<u8>, Error> {
        let source = self.clone();
        let path = reference.path().to_owned();
        let read = tokio::task::spawn_blocking(move || source.read_blocking(&path)).await;
        read.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Store, "reading the file broke off").caused_by(error))
        })
    }

    fn read_blocking(&self, path: &Path) -> Result<Vec<u8>, Error> {
        let failed = |error: std::io::Error| {
            let kind = if error.kind() == std::io::ErrorKind::NotFound {
                ErrorKind::NotFound
            } else {
                ErrorKind::Store
            };
            let message = if kind == ErrorKind::NotFound {
                format!("there is no file `{}`", path.display())
            } else {
                format!("`{}` cannot be read: {error}", path.display())
            };
            Error::new(kind, message).caused_by(error)
        };
        // Links are followed first, so that what is checked is what is opened.
        let real = match &self.access {
            Access::Denied => {
                return Err(Error::new(
                    ErrorKind::Denied,
                    "modules from files are not allowed here",
                )
                .hint("the operator can open one directory with `sources.fileRoot`"));
            }
            Access::Any => path.canonicalize().map_err(failed)?,
            Access::Below(root) => {
                let real_root = root.canonicalize().map_err(|error| {
                    let message =
                        format!("the directory `{}` cannot be read: {error}", root.display());
                    Error::new(ErrorKind::InvalidConfig, message)
                        .hint("the operator mends `sources.fileRoot`")
                })?;
                // By name first: whether there is something outside is not for the requester to know.
                let climbs = path
                    .components()
                    .any(|component| component == Component::ParentDir);
                if climbs || (!path.starts_with(root) && !path.starts_with(&real_root)) {
                    let message = format!(
                        "`{}` is outside the directory that the operator opened",
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
                        "there is no file `{}` in the directory that the operator opened",
                        path.display()
                    );
                    Error::new(ErrorKind::NotFound, message)
                })?
            }
        };
        let file = std::fs::File::open(&real).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(Error::new(
                ErrorKind::InvalidReference,
                format!("`{}` is not a file", path.display()),
            ));
        }
        let mut bytes = Vec::new();
        file.take(self.max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > self.max_bytes {
            let limit = self.max_bytes;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("`{}` is larger than {limit} bytes", path.display()),
            ));
        }
        Ok(bytes)
    }
}

#[async_trait]
impl Source for FileSource {
    type Reference = FileReference;

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
    fn only_files_below_the_opened_directory() {
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
