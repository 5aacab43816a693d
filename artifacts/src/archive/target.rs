//! The directory that an archive is unpacked to.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, File, Metadata, OpenOptions, Permissions, PermissionsExt};
use untrusted_tar::{Entry, Error, Kind, LimitExceeded, plain_path};

use super::invalid;
use super::links::Links;
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
    links: Links,
    /// Directory that was created last. Archives list the files of a directory one after the other.
    last_directory: PathBuf,
    chunk: Vec<u8>,
}

impl<'a> Target<'a> {
    pub(super) fn new(directory: &'a Dir, share: &'a Share) -> Self {
        Self {
            directory,
            share,
            links: Links::default(),
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
                let mut file = self.create(&path)?;
                self.copy_with_holes(entry, &mut file)?;
                set_mode(&file, mode)
            }
            Kind::Symlink => self.symlink(&entry.path()?, &link),
            Kind::HardLink => self.hard_link(&entry.path()?, &plain_path(link.as_bytes())?),
            Kind::Other => Ok(()),
        }
    }

    /// Creates a directory. It replaces a file or link that an earlier entry left at the path,
    /// unless the link leads to a directory of the archive.
    pub(super) fn directory(&mut self, path: &str) -> io::Result<()> {
        let is_other = |metadata: Metadata| !metadata.is_dir();
        if self.directory.symlink_metadata(path).is_ok_and(is_other) && !self.directory.is_dir(path)
        {
            self.directory.remove_file(path)?;
        }
        let created = self.make_directories(Path::new(path))?;
        // The directory itself is counted already.
        self.count_directories(created.saturating_sub(1))
    }

    /// Writes a file without holes.
    pub(super) fn file(
        &mut self,
        path: &str,
        content: &mut dyn Read,
        mode: Option<u32>,
    ) -> io::Result<()> {
        let mut file = self.create(path)?;
        self.copy(content, &mut file)?;
        set_mode(&file, mode)
    }

    fn create(&mut self, path: &str) -> io::Result<File> {
        self.make_room(path)?;
        let options = OpenOptions::new().write(true).create_new(true).clone();
        self.directory.open_with(path, &options)
    }

    fn copy(&mut self, content: &mut dyn Read, file: &mut File) -> io::Result<()> {
        loop {
            let count = content.read(&mut self.chunk)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&self.chunk[..count])?;
        }
    }

    /// Copies the content of a file. The holes of a sparse file take no space on the disk.
    fn copy_with_holes(&mut self, entry: &mut Entry<'_>, file: &mut File) -> io::Result<()> {
        let mut length = 0;
        loop {
            let hole = entry.skip_hole()?;
            if hole > 0 {
                length = file.seek(SeekFrom::Current(i64::try_from(hole).map_err(too_long)?))?;
                continue;
            }
            let count = entry.read(&mut self.chunk)?;
            if count == 0 {
                break;
            }
            file.write_all(&self.chunk[..count])?;
        }
        // A hole at the end is not written.
        match length > 0 && length > file.metadata()?.len() {
            true => file.set_len(length),
            false => Ok(()),
        }
    }

    fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        Links::check(path, target)?;
        self.make_room(path)?;
        self.links.add(self.directory, path, target)
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
        // GNU tar writes such a link for a file that it is given twice.
        if path == original {
            return Ok(());
        }
        self.make_room(path)?;
        self.directory.hard_link(original, self.directory, path)
    }

    /// Creates the parent directories, and removes the file or empty directory that an earlier
    /// entry left at the path. Neither follows a link out of the directory.
    fn make_room(&mut self, path: &str) -> io::Result<()> {
        if path.is_empty() {
            return Err(invalid("an entry in the archive has no name".to_owned()));
        }
        if let Some(parent) = Path::new(path).parent() {
            let created = self.make_directories(parent)?;
            self.count_directories(created)?;
        }
        let existing = match self.directory.symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            existing => existing?,
        };
        if !existing.is_dir() {
            return self.directory.remove_file(path);
        }
        self.last_directory.clear();
        match self.directory.remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Err(invalid(
                format!("`{path}` is a file or link in the archive, and a directory with files"),
            )),
            removed => removed,
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

    /// Completes and checks the links when all entries are there. See [`Links::finish`].
    pub(super) fn finish_links(&self, seen_at: &str, only: Option<&Path>) -> io::Result<()> {
        self.links.finish(self.directory, seen_at, only)
    }
}

/// Sets the permissions of a file. The owner can always read the file: a later step may upload it
/// again.
fn set_mode(file: &File, mode: Option<u32>) -> io::Result<()> {
    match mode {
        Some(mode) => file.set_permissions(Permissions::from_mode((mode & 0o777) | 0o400)),
        None => Ok(()),
    }
}

fn too_long(_: std::num::TryFromIntError) -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}
