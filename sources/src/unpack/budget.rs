//! The limits on unpacked content, and how much of them is left.

use crate::{Error, ErrorKind};

/// The limits on unpacked content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest module, in bytes.
    pub(crate) module: u64,
}

impl Limits {
    /// The largest unpacked size of one archive or layer, in bytes.
    pub(super) fn unpacked(self) -> u64 {
        self.module.saturating_mul(4)
    }
}

/// The most entries that all archives of one package may have.
pub(super) const MAX_ENTRIES: u64 = 100_000;

/// The most bytes of paths in all archives of one package: about 160 for each entry.
pub(super) const MAX_NAMES: usize = 16 << 20;

/// The remaining entries and bytes for all archives of one package.
pub(super) struct Budget {
    /// Remaining entries.
    pub(super) entries: u64,
    /// Remaining bytes of paths, and of the targets of links. They are held in memory.
    pub(super) names: usize,
    /// Remaining bytes of the decompressed archives.
    pub(super) bytes: u64,
    /// Remaining bytes of content, with the holes of sparse files.
    pub(super) content: u64,
    /// The limit on `bytes` and on `content`, for error messages.
    pub(super) total: u64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            entries: MAX_ENTRIES,
            names: MAX_NAMES,
            bytes: limits.unpacked(),
            content: limits.unpacked(),
            total: limits.unpacked(),
        }
    }
}

pub(super) fn damaged(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the archive is damaged: {error}"),
    )
}
