//! A directory that only this user can change.
//!
//! A private directory is opened component by component. These conditions must be true, as in
//! OpenSSH for the files of a user:
//!
//! - Every directory on the way belongs to root or to this user.
//! - Group and others cannot write to a directory on the way, unless the directory is sticky. In a
//!   sticky directory, other users cannot rename or remove an entry of this user.
//! - A symbolic link on the way belongs to root or to this user. The path that the link contains is
//!   checked in the same way.
//! - The directory itself belongs to this user and has mode 0700.
//!
//! Afterwards the directory is used through its descriptor. So a directory that another user puts
//! in its place later has no effect.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// As many symbolic links as Linux follows in one path.
const MAX_LINKS: u32 = 40;
/// Prefix of the names of temporary files.
const TEMPORARY: &str = ".tmp";
/// A temporary file that is older than this was left by a process that was killed.
const STALE: Duration = Duration::from_hours(1);

/// An open directory that only this user can change.
#[derive(Clone, Debug)]
pub(super) struct PrivateDirectory {
    descriptor: Arc<OwnedFd>,
}

impl PrivateDirectory {
    /// Opens the directory, and creates it and its parents with mode 0700 if they do not exist.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if another user can change the directory or replace it. The error names
    /// the directory at fault, and what to do.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let directory = Walk::new(path)?.last()?;
        directory.require_private()?;
        Ok(Self {
            descriptor: Arc::new(directory.descriptor),
        })
    }

    /// Opens the directory `name` in this directory, and creates it if it does not exist.
    pub(super) fn subdirectory(&self, name: &str) -> io::Result<Self> {
        make_directory(&self.descriptor, OsStr::new(name))?;
        let flags = PATH | OFlags::DIRECTORY;
        let descriptor = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty())?;
        let directory = Visited {
            status: rustix::fs::fstat(&descriptor)?,
            descriptor,
            path: PathBuf::from(name),
        };
        directory.require_private()?;
        Ok(Self {
            descriptor: Arc::new(directory.descriptor),
        })
    }

    /// Opens the file `name` for reading. `None` if the file does not exist.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` unless the entry is a regular file with only one name, belongs to this
    /// user, and can be written only by this user.
    pub(super) fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        // Opening a FIFO must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.descriptor, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            // A symbolic link.
            Err(Errno::LOOP) => return Err(not_own_file(name)),
            Err(error) => return Err(error.into()),
        };
        let status = rustix::fs::fstat(&file)?;
        match is_own_file(&status, user()) {
            true => Ok(Some(file.into())),
            false => Err(not_own_file(name)),
        }
    }

    /// Creates an empty file in this directory. Only this process knows the name. The file is
    /// removed when the value is dropped, unless [`TemporaryFile::rename`] gave it its name.
    pub(super) fn temporary_file(&self) -> io::Result<TemporaryFile> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMPORARY}-{}-{number}", std::process::id());
            match rustix::fs::openat(&self.descriptor, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return Ok(TemporaryFile {
                        directory: self.clone(),
                        name: Some(name),
                        file: file.into(),
                    });
                }
                // A process with the same id was killed, or runs in another container.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Removes temporary files that killed processes left more than an hour ago.
    pub(super) fn remove_stale_files(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())?;
        let stale = SystemTime::now()
            .checked_sub(STALE)
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_secs().cast_signed());
        for entry in Dir::new(readable)?.flatten() {
            let name = entry.file_name();
            if !name.to_bytes().starts_with(TEMPORARY.as_bytes()) {
                continue;
            }
            let status = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if status.st_mtime < stale {
                rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// A file without its final name in a private directory.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    directory: PrivateDirectory,
    /// `None` once the file has its final name.
    name: Option<String>,
    file: File,
}

impl TemporaryFile {
    /// The open file, for reading and writing.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name. An existing file with this name is replaced.
    pub(super) fn rename(mut self, name: &str) -> io::Result<()> {
        if let Some(temporary) = &self.name {
            let directory = &self.directory.descriptor;
            rustix::fs::renameat(directory, temporary, directory, name)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(&self.directory.descriptor, name, AtFlags::empty());
        }
    }
}

/// Checks that no other user than root can replace the directory at `path`, a directory above it,
/// or an entry in it. Other users may read the directory. A missing directory is created.
pub fn check_trusted(path: &Path) -> io::Result<()> {
    Walk::new(path)?.last()?.require_trusted()
}

/// The flags for an entry that is only looked at. A symbolic link is opened itself.
const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An opened entry of the path.
struct Visited {
    descriptor: OwnedFd,
    status: Stat,
    path: PathBuf,
}

impl Visited {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.status.st_mode)
    }

    /// Fails if another user than root can replace entries of this directory, or this link.
    fn require_trusted(&self) -> io::Result<()> {
        let owner = self.status.st_uid;
        let mode = self.status.st_mode & 0o7777;
        if owner != 0 && owner != user() {
            let path = self.path.display();
            return Err(unsafe_place(format_args!(
                "`{path}` belongs to the user {owner}: that user can replace files below; \
                 choose a directory whose parents belong to root or to this program's user"
            )));
        }
        if self.kind() == FileType::Directory && mode & 0o022 != 0 && mode & 0o1000 == 0 {
            let path = self.path.display();
            return Err(unsafe_place(format_args!(
                "other users can replace files in `{path}` (mode {mode:04o}): \
                 remove the write permission of group and others, or set the sticky bit"
            )));
        }
        Ok(())
    }

    /// Fails unless the directory belongs to this user and has mode 0700.
    fn require_private(&self) -> io::Result<()> {
        if self.status.st_uid == user() && self.status.st_mode & 0o077 == 0 {
            return Ok(());
        }
        Err(unsafe_place(format_args!(
            "`{}` must belong to this program's user and have mode 0700",
            self.path.display()
        )))
    }
}

/// The walk from the root to a directory.
struct Walk {
    /// The components that are left. The next one is the last of the list.
    rest: Vec<OsString>,
    links: u32,
    directory: Visited,
}

impl Walk {
    fn new(path: &Path) -> io::Result<Self> {
        let mut walk = Self {
            rest: Vec::new(),
            links: 0,
            directory: root()?,
        };
        walk.push(&std::path::absolute(path)?);
        Ok(walk)
    }

    /// The last directory of the path. Fails if a directory before it cannot be trusted. Missing
    /// directories are created even then, so that the operator sees where they would be.
    fn last(mut self) -> io::Result<Visited> {
        let mut untrusted = None;
        while let Some(name) = self.rest.pop() {
            let trusted = self.directory.require_trusted();
            untrusted = untrusted.or(trusted.err());
            self.enter(&name)?;
        }
        untrusted.map_or(Ok(self.directory), Err)
    }

    fn push(&mut self, path: &Path) {
        let components = path
            .components()
            .rev()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
            });
        self.rest.extend(components);
    }

    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let parent = &self.directory.descriptor;
        let descriptor = match rustix::fs::openat(parent, name, PATH, Mode::empty()) {
            Err(Errno::NOENT) => {
                make_directory(parent, name)?;
                rustix::fs::openat(parent, name, PATH, Mode::empty())
            }
            opened => opened,
        };
        let path = self.directory.path.join(name);
        let descriptor = descriptor.map_err(|error| in_path(&error.into(), &path))?;
        let entry = Visited {
            status: rustix::fs::fstat(&descriptor)?,
            descriptor,
            path,
        };
        match entry.kind() {
            FileType::Directory => self.directory = entry,
            FileType::Symlink => self.follow(&entry)?,
            _ => return Err(in_path(&ErrorKind::NotADirectory.into(), &entry.path)),
        }
        Ok(())
    }

    fn follow(&mut self, link: &Visited) -> io::Result<()> {
        link.require_trusted()?;
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(in_path(&Errno::LOOP.into(), &link.path));
        }
        let target = rustix::fs::readlinkat(&link.descriptor, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.directory = root()?;
        }
        self.push(&target);
        Ok(())
    }
}

fn root() -> io::Result<Visited> {
    let descriptor = rustix::fs::open("/", PATH | OFlags::DIRECTORY, Mode::empty())?;
    Ok(Visited {
        status: rustix::fs::fstat(&descriptor)?,
        descriptor,
        path: PathBuf::from("/"),
    })
}

/// Creates a directory with mode 0700. An existing entry is left as it is.
fn make_directory(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::mkdirat(parent, name.as_bytes(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the file is a regular file with only one name, belongs to `user`, and can be written
/// only by `user`.
fn is_own_file(status: &Stat, user: u32) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
        && status.st_uid == user
        && status.st_mode & 0o022 == 0
        && status.st_nlink == 1
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn not_own_file(name: &str) -> io::Error {
    unsafe_place(format_args!(
        "`{name}` is not a regular file with one name that only this program's user can write"
    ))
}

fn unsafe_place(message: fmt::Arguments<'_>) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, message.to_string())
}

fn in_path(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests;
