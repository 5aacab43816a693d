//! Limits on the inputs of a step. All inputs of the step share them.
//!
//! Inputs are downloaded at the same time, so the counters are atomic. A [`Share`] reserves bytes
//! and entries before they are written. It releases them when it is dropped, so that a download
//! that failed can be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, ErrorKind};

/// Limits on all inputs of a step together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// An input needs more than the quota has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// Too many bytes. The number is the limit for this input.
    #[error("the artifact is larger than the {0} bytes that are left of the step's disk limit")]
    Bytes(u64),
    /// Too many files, directories and links. The number is the limit for this input.
    #[error("the artifact has more than the {0} entries that are left of the step's entry limit")]
    Entries(u64),
}

impl QuotaExceeded {
    /// Number of bytes or entries that this input could have had: the limit without the shares of
    /// the other inputs.
    pub fn limit(self) -> u64 {
        match self {
            Self::Bytes(limit) | Self::Entries(limit) => limit,
        }
    }
}

impl From<QuotaExceeded> for Error {
    fn from(exceeded: QuotaExceeded) -> Self {
        Self::new(ErrorKind::Damaged, exceeded.to_string())
    }
}

/// Counters of the bytes and entries that the inputs of one step use.
///
/// A zip archive is on the disk as a whole before it is unpacked. Such archives have counters of
/// their own, with the same bounds.
#[derive(Debug)]
pub struct Quota {
    bounds: Bounds,
    files: Usage,
    archives: Usage,
}

#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Quota {
    /// An unused quota.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            files: Usage::default(),
            archives: Usage::default(),
        })
    }

    /// An empty share, for one attempt to download one input.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            quota: Arc::clone(self),
            is_archive: false,
            own: Usage::default(),
        }
    }
}

/// The part of a [`Quota`] that one input uses. Dropping a share releases its part, unless the
/// share is committed.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    is_archive: bool,
    own: Usage,
}

impl Share {
    /// An empty share for an archive of the same input that is still to be unpacked.
    pub(crate) fn for_archive(&self) -> Self {
        Self {
            quota: Arc::clone(&self.quota),
            is_archive: true,
            own: Usage::default(),
        }
    }

    /// The bounds of the whole quota. The parts in use are not subtracted.
    pub(crate) fn bounds(&self) -> Bounds {
        self.quota.bounds
    }

    /// Reserves bytes of files. Call this before the bytes are written.
    pub fn take_bytes(&self, count: u64) -> Result<(), QuotaExceeded> {
        let limit = self.quota.bounds.bytes;
        take(&self.total().bytes, &self.own.bytes, count, limit).map_err(QuotaExceeded::Bytes)
    }

    /// Reserves files, directories and links. Call this before they are created.
    pub fn take_entries(&self, count: u64) -> Result<(), QuotaExceeded> {
        let limit = self.quota.bounds.entries;
        take(&self.total().entries, &self.own.entries, count, limit).map_err(QuotaExceeded::Entries)
    }

    /// Keeps the reserved part in use when the share is dropped: the input stays on the disk.
    pub fn commit(&self) {
        self.own.bytes.store(0, Ordering::Relaxed);
        self.own.entries.store(0, Ordering::Relaxed);
    }

    fn total(&self) -> &Usage {
        if self.is_archive {
            &self.quota.archives
        } else {
            &self.quota.files
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let bytes = self.own.bytes.load(Ordering::Relaxed);
        let entries = self.own.entries.load(Ordering::Relaxed);
        self.total().bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.total().entries.fetch_sub(entries, Ordering::Relaxed);
    }
}

/// Adds to the counters of the quota and of the share. The error is the limit that the other shares
/// leave.
fn take(total: &AtomicU64, own: &AtomicU64, count: u64, limit: u64) -> Result<(), u64> {
    let total = total
        .fetch_add(count, Ordering::Relaxed)
        .saturating_add(count);
    let own = own
        .fetch_add(count, Ordering::Relaxed)
        .saturating_add(count);
    if total > limit {
        let others = total.saturating_sub(own);
        Err(limit.saturating_sub(others))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_share_is_released_and_a_committed_share_is_not() {
        let quota = Quota::new(Bounds {
            bytes: 10,
            entries: 2,
        });
        let first = quota.share();
        let second = quota.share();
        assert_eq!(first.take_bytes(6), Ok(()));
        assert_eq!(first.take_entries(1), Ok(()));
        assert_eq!(
            second.take_bytes(5),
            Err(QuotaExceeded::Bytes(4)),
            "both shares together are over the limit"
        );
        assert_eq!(
            second.for_archive().take_bytes(10),
            Ok(()),
            "archives have counters of their own"
        );
        drop(second);
        first.commit();
        let third = quota.share();
        assert_eq!(third.take_bytes(4), Ok(()));
        assert_eq!(third.take_bytes(1), Err(QuotaExceeded::Bytes(4)));
        assert_eq!(third.take_entries(1), Ok(()));
        assert_eq!(third.take_entries(1), Err(QuotaExceeded::Entries(1)));
    }
}
