//! How much a step's directory holds.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags};

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

/// Counts what is below `directory`, and stops counting beyond `max_entries`. What vanishes meanwhile is not counted; what
/// cannot be looked at is not there for the guest either.
pub(super) fn usage(directory: &Path, max_entries: u64) -> Usage {
    let mut usage = Usage::default();
    let Ok(root) = fs::open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else { return usage };
    usage.free = fs::fstatvfs(&root).map_or(u64::MAX, |statvfs| statvfs.f_bavail.saturating_mul(statvfs.f_frsize));
    let mut pending = vec![root];
    while let Some(directory) = pending.pop() {
        if usage.entries <= max_entries {
            count(&directory, &mut usage, max_entries, &mut pending);
        }
    }
    usage
}

fn count(directory: &OwnedFd, usage: &mut Usage, max_entries: u64, pending: &mut Vec<OwnedFd>) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        usage.entries += 1;
        if usage.entries > max_entries {
            return;
        }
        let Ok(stat) = fs::statat(directory.as_fd(), entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        usage.bytes = usage.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(below) = fs::openat(directory.as_fd(), entry.file_name(), flags, Mode::empty()) {
                pending.push(below);
            }
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
        assert_eq!(usage(directory.path(), 2).entries, 3, "stops soon after the limit");
    }
}
