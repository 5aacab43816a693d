//! How much a step's directory holds.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Blocks, in bytes.
    pub(super) bytes: u64,
    /// Files and directories.
    pub(super) entries: u64,
    /// Bytes free on the file system.
    pub(super) free: u64,
}

/// Counts what is below `directory`, and stops counting beyond `max_entries`. What vanishes meanwhile is not counted. What cannot
/// be looked into (too deep, too many open files) counts as too many entries: it must not be a place to hide.
pub(super) fn usage(directory: &Path, max_entries: u64) -> Usage {
    let mut usage = Usage::default();
    let Ok(root) = fs::open(
        directory,
        OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return usage;
    };
    usage.free = fs::fstatvfs(&root).map_or(u64::MAX, |statvfs| {
        statvfs.f_bavail.saturating_mul(statvfs.f_frsize)
    });
    // By path, with one directory open at a time: a guest can make more directories than this process may open.
    let mut pending = vec![PathBuf::from(".")];
    while let Some(below) = pending.pop() {
        if usage.entries > max_entries {
            break;
        }
        match open_below(&root, &below) {
            Ok(opened) => count(&opened, &below, &mut usage, max_entries, &mut pending),
            // Gone, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            Err(_) => usage.entries = u64::MAX,
        }
    }
    usage
}

/// The guest may put a link in the place of a directory at any time.
fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    ) {
        // Kernels before 5.6, and containers that do not know the call. Links to elsewhere are then counted, not followed by guests.
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
) {
    let Ok(entries) = Dir::read_from(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        usage.entries += 1;
        if usage.entries > max_entries {
            return;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_blocks_and_entries_but_no_links() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        std::fs::write(directory.path().join("a/b/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("a/link")).unwrap();
        let counted = usage(directory.path(), 100);
        assert_eq!(counted.entries, 4);
        assert!((100_000..400_000).contains(&counted.bytes), "{counted:?}");
        assert!(counted.free > 0);
        assert_eq!(
            usage(directory.path(), 2).entries,
            3,
            "stops soon after the limit"
        );
    }
}
