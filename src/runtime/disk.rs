//! Measures the disk usage of a step's directory.
//!
//! The directory belongs to the guest, and its content is untrusted: deep trees, symbolic links,
//! more directories than this process may open. Another process of the same user could even change
//! it meanwhile. The code here follows no symbolic link.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Disk usage of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Size of the allocated blocks, in bytes.
    pub(super) bytes: u64,
    /// Number of files, directories and links.
    pub(super) entries: u64,
    /// Free space on the file system, in bytes.
    pub(super) free: u64,
}

/// Measures everything below `directory`. Stops soon after `max_entries` entries.
///
/// An entry that disappears during the measurement is not counted. If a directory below `directory`
/// cannot be opened, for example because it is too deep, the function reports too many entries.
/// Otherwise a guest could hide files in such a directory.
///
/// # Errors
///
/// `directory` or its file system cannot be read, or this process has no free descriptor or no
/// memory.
pub(super) fn usage(directory: &Path, max_entries: u64) -> Result<Usage, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = fs::open(directory, flags, Mode::empty())?;
    let statvfs = fs::fstatvfs(&root)?;
    let mut usage = Usage {
        free: statvfs.f_bavail.saturating_mul(statvfs.f_frsize),
        ..Usage::default()
    };
    // Only one directory is open at a time, because a guest can make more directories than this
    // process may open.
    let mut pending = vec![PathBuf::from(".")];
    while let Some(below) = pending.pop() {
        if usage.entries > max_entries {
            break;
        }
        let opened = open_below(&root, &below);
        let counted =
            opened.and_then(|opened| count(&opened, &below, &mut usage, max_entries, &mut pending));
        match counted {
            // The directory may have been removed or replaced meanwhile.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            // The cause is this process or this machine, and not the guest's directory.
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(error),
            Err(_) => usage.entries = u64::MAX,
        }
    }
    Ok(usage)
}

/// Opens a directory below `root`. Fails if a component of the path is a symbolic link: the
/// directory may have been replaced by a link since it was listed.
fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    ) {
        // Kernels before 5.6 and some container sandboxes do not have `openat2`. A link in the
        // middle of the path is then followed. This can only make the measured usage too high or
        // too low: WASI does not let the guest follow the link.
        Err(Errno::NOSYS | Errno::PERM) => fs::openat(root, path, flags, Mode::empty()),
        opened => opened,
    }
}

fn count(
    directory: &OwnedFd,
    path: &Path,
    usage: &mut Usage,
    max_entries: u64,
    pending: &mut Vec<PathBuf>,
) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        usage.entries += 1;
        if usage.entries > max_entries {
            return Ok(());
        }
        let Ok(stat) = fs::statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        usage.bytes = usage.bytes.saturating_add(
            u64::try_from(stat.st_blocks)
                .unwrap_or(0)
                .saturating_mul(512),
        );
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            pending.push(path.join(OsStr::from_bytes(name.to_bytes())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_counts_blocks_and_entries_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("a/link")).unwrap();
        let counted = usage(directory.path(), 100).unwrap();
        assert_eq!(counted.entries, 4);
        assert!((100_000..400_000).contains(&counted.bytes), "{counted:?}");
        assert!(counted.free > 0);
        assert_eq!(
            usage(directory.path(), 2).unwrap().entries,
            3,
            "the count stops soon after the limit"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_opened_is_an_error_and_not_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        assert_eq!(usage(&missing, 100), Err(Errno::NOENT));
    }
}
