//! Limits on the size of archives.

/// A limit of a [`Budget`] is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The limit, in entries or bytes.
    pub limit: u64,
}

/// Counters that limit the reading of an archive.
///
/// The caller owns the counters, so that several archives can share them: the layers of an image,
/// or all inputs of a step. Each method is called before the entries or bytes are used.
pub trait Budget {
    /// Takes entries: files, directories, links, and anything else that has a header.
    fn take_entries(&mut self, count: u64) -> Result<(), LimitExceeded>;

    /// Takes bytes of the decompressed archive: headers, padding, and content without holes.
    fn take_archive_bytes(&mut self, count: u64) -> Result<(), LimitExceeded>;

    /// Takes bytes of content: the bytes of files, the holes of sparse files included.
    fn take_content_bytes(&mut self, count: u64) -> Result<(), LimitExceeded>;
}

/// Fixed limits for one archive, or for several that are read one after the other. Reading
/// reduces the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Remaining entries.
    pub entries: u64,
    /// Remaining bytes of the decompressed archive.
    pub archive_bytes: u64,
    /// Remaining bytes of content.
    pub content_bytes: u64,
}

impl Budget for Bounds {
    fn take_entries(&mut self, count: u64) -> Result<(), LimitExceeded> {
        take(&mut self.entries, count)
    }

    fn take_archive_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        take(&mut self.archive_bytes, count)
    }

    fn take_content_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        take(&mut self.content_bytes, count)
    }
}

impl<B: Budget + ?Sized> Budget for &mut B {
    fn take_entries(&mut self, count: u64) -> Result<(), LimitExceeded> {
        (**self).take_entries(count)
    }

    fn take_archive_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        (**self).take_archive_bytes(count)
    }

    fn take_content_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        (**self).take_content_bytes(count)
    }
}

fn take(remaining: &mut u64, count: u64) -> Result<(), LimitExceeded> {
    *remaining = remaining
        .checked_sub(count)
        .ok_or(LimitExceeded { limit: *remaining })?;
    Ok(())
}
