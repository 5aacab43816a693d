//! The directory that an archive is unpacked to.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use untrusted_tar::{Entry, Error, Kind, LimitExceeded, leads_out, plain_path};

use super::invalid;
use crate::mkdir::make_directories;
use crate::quota::Share;

const CHUNK_BYTES: usize = 64 << 10;

/// A new directory that entries of an archive are written to. No path and no link leaves it.
///
/// The caller counts each entry once. The target counts the directories that only the paths of
/// entries ask for.
pub(super) struct Target<'a> {
    directory: &'a Dir,
    share: &'a Share,
    links: Vec<PathBuf>,
    /// Directory that was created last. Archives list the files of a directory one after the other.
    last_directory: PathBuf,
    chunk: Vec<u8>,
}

impl<'a> Target<'a> {
    pub(super) fn new(directory: &'a Dir, share: &'a Share) -> Self {
        Self {
            directory,
            share,
            links: Vec::new(),
            last_directory: PathBuf::new(),
            chunk: vec![0; CHUNK_BYTES],
        }
    }

    /// Writes an entry of a tar archive. Devices and pipes are left out, as by Argo.
    pub(super) fn tar_entry(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let link = String::from_utf8_lossy(entry.link().unwrap_or_default()).into_owned();
        match entry.kind() {
            Kind::Directory => self.directory(&entry.path()?),
            Kind::File => {
                let path = entry.path()?;
                let mode = entry.mode();
                self.file(&path, entry, mode)
            }
            Kind::Symlink => self.symlink(&entry.path()?, &link),
            Kind::HardLink => self.hard_link(&entry.path()?, &plain_path(link.as_bytes())?),
            Kind::Other => Ok(()),
        }
    }

    /// Creates a directory.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        let created = self.make_directories(Path::new(path))?;
        // The directory itself is counted already.
        self.count_directories(created.saturating_sub(1))
    }

    /// Writes a file. The owner can always read the file: a later step may upload it again.
    pub(super) fn file(
        &mut self,
        path: &str,
        content: &mut dyn Read,
        mode: Option<u32>,
    ) -> io::Result<()> {
        self.make_room(path)?;
        let options = OpenOptions::new().write(true).create_new(true).clone();
        let mut file = self.directory.open_with(path, &options)?;
        loop {
            let count = content.read(&mut self.chunk)?;
            if count == 0 {
                break;
            }
            file.write_all(&self.chunk[..count])?;
        }
        match mode {
            Some(mode) => file.set_permissions(Permissions::from_mode((mode & 0o777) | 0o400)),
            None => Ok(()),
        }
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        if leads_out(path, Path::new(target)) {
            return Err(invalid(format!(
                "`{path}` is a link that leads out of the archive, to `{target}`"
            )));
        }
        self.make_room(path)?;
        self.links.push(path.into());
        self.directory.symlink(target, path)
    }

    /// Creates a second name for a file that an earlier entry created.
    fn hard_link(&mut self, path: &str, original: &str) -> io::Result<()> {
        // A hard link to a symbolic link could lead out: the target is relative to the directory of
        // the link.
        if !self.directory.symlink_metadata(original)?.is_file() {
            return Err(invalid(format!(
                "`{path}` is a hard link to something other than a file"
            )));
        }
        self.make_room(path)?;
        self.directory.hard_link(original, self.directory, path)
    }

    /// Creates the parent directories, and removes the file that an earlier entry left at the path.
    /// Neither follows a link out of the directory.
    fn make_room(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Err(invalid("an entry in the archive has no name".to_owned()));
        }
        if let Some(parent) = Path::new(path).parent() {
            let created = self.make_directories(parent)?;
            self.count_directories(created)?;
        }
        match self.directory.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn make_directories(&mut self, path: &Path) -> io::Result<u64> {
        if path == self.last_directory {
            return Ok(0);
        }
        let created = make_directories(self.directory, path)?;
        path.clone_into(&mut self.last_directory);
        Ok(created)
    }

    fn count_directories(&self, count: u64) -> io::Result<()> {
        self.share.take_entries(count).map_err(|error| {
            let limit = error.limit();
            Error::too_many_entries(LimitExceeded { limit }).into()
        })
    }

    /// Checks the links when all entries are there. Two links that stay inside the directory can
    /// lead out together. The check follows each link within the directory, and fails if the link
    /// leaves it.
    pub(super) fn check_links(&self) -> io::Result<()> {
        for link in &self.links {
            match self.directory.metadata(link) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(invalid(format!(
                        "`{}` is a link that leads out of the archive through other links",
                        link.display()
                    )));
                }
                // A link may lead to nothing, or a later entry replaced it.
                _ => {}
            }
        }
        Ok(())
    }
}
