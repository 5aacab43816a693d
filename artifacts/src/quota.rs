//! What the inputs of a step may bring, all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of files; and files, directories and links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of files.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

/// How much of the bounds is taken. Archives that have to be whole before they are unpacked are counted apart, within the same bounds.
#[derive(Debug)]
pub struct Quota {
    bounds: Bounds,
    files: Taken,
    archives: Taken,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Quota {
    /// Nothing is taken yet.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            files: Taken::default(),
            archives: Taken::default(),
        })
    }

    /// For one input, or one attempt to bring it.
    pub fn share(self: &Arc<Self>) -> Share {
        Share {
            quota: Arc::clone(self),
            archive: false,
            own: Taken::default(),
        }
    }
}

/// What one input takes. Dropped, it is given back, unless it is kept.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    archive: bool,
    own: Taken,
}

impl Share {
    /// For the same input, as an archive that is still to be unpacked.
    pub(crate) fn of_archive(&self) -> Self {
        Self {
            quota: Arc::clone(&self.quota),
            archive: true,
            own: Taken::default(),
        }
    }

    /// The bounds, whatever is taken of them.
    pub(crate) fn bounds(&self) -> Bounds {
        self.quota.bounds
    }

    /// Takes bytes before they are written. How many there were for this input, where that is too many.
    pub fn take_bytes(&self, more: u64) -> Result<(), u64> {
        take(
            &self.all().bytes,
            &self.own.bytes,
            more,
            self.quota.bounds.bytes,
        )
    }

    /// The same of files, directories and links.
    pub fn take_entries(&self, more: u64) -> Result<(), u64> {
        take(
            &self.all().entries,
            &self.own.entries,
            more,
            self.quota.bounds.entries,
        )
    }

    /// What was taken stays taken.
    pub fn commit(&self) {
        self.own.bytes.store(0, Ordering::Relaxed);
        self.own.entries.store(0, Ordering::Relaxed);
    }

    fn all(&self) -> &Taken {
        if self.archive {
            &self.quota.archives
        } else {
            &self.quota.files
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all()
            .bytes
            .fetch_sub(self.own.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.all()
            .entries
            .fetch_sub(self.own.entries.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn take(all: &AtomicU64, own: &AtomicU64, more: u64, most: u64) -> Result<(), u64> {
    let all = all.fetch_add(more, Ordering::Relaxed).saturating_add(more);
    let taken = own.fetch_add(more, Ordering::Relaxed).saturating_add(more);
    if all > most {
        Err(most.saturating_sub(all.saturating_sub(taken)))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_given_back() {
        let quota = Quota::new(Bounds {
            bytes: 10,
            entries: 2,
        });
        let (first, second) = (quota.share(), quota.share());
        assert_eq!(
            (first.take_bytes(6), first.take_entries(1)),
            (Ok(()), Ok(()))
        );
        assert_eq!(second.take_bytes(5), Err(4), "together they are too many");
        assert_eq!(
            second.of_archive().take_bytes(10),
            Ok(()),
            "archives are counted apart"
        );
        drop(second);
        first.commit();
        let third = quota.share();
        assert_eq!((third.take_bytes(4), third.take_bytes(1)), (Ok(()), Err(4)));
        assert_eq!(
            (third.take_entries(1), third.take_entries(1)),
            (Ok(()), Err(1))
        );
    }
}
