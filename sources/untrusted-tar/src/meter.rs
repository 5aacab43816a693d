//! Counts bytes and entries against limits.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use crate::bounds::Budget;
use crate::error::{Error, ErrorKind};

/// Number of bytes that a [`CountingReader`] has read. Clones share the number.
#[derive(Clone, Debug, Default)]
pub struct ByteCount(Rc<Cell<u64>>);

impl ByteCount {
    /// A number of bytes that is known beforehand.
    pub fn of(bytes: u64) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// The number of bytes that were counted so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Counts the bytes of a packed archive, and fails when there are more than a limit.
#[derive(Debug)]
pub struct CountingReader<R> {
    inner: R,
    count: ByteCount,
    limit: u64,
}

impl<R: Read> CountingReader<R> {
    /// Reads at most `limit` bytes from `inner`.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            count: ByteCount::default(),
            limit,
        }
    }

    /// The number of bytes read. It grows while the reader is used.
    pub fn count(&self) -> ByteCount {
        self.count.clone()
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.0.update(|bytes| bytes + count as u64);
        if self.count.get() > self.limit {
            let message = format!("the archive is larger than {} bytes", self.limit);
            return Err(Error::new(ErrorKind::TooManyBytes, message).into());
        }
        Ok(count)
    }
}

/// Limit on the expansion ratio: unpacked bytes per packed byte.
#[derive(Clone, Debug)]
pub struct ExpansionLimit {
    /// Unpacked bytes that are allowed at any ratio.
    pub free_bytes: u64,
    /// Highest ratio beyond `free_bytes`.
    pub max_ratio: u64,
    /// Bytes of the packed archive so far.
    pub packed: ByteCount,
}

/// Counts the unpacked bytes and entries of one archive against a [`Budget`] and an
/// [`ExpansionLimit`].
///
/// [`TarReader`](crate::TarReader) uses a meter itself. Readers of other formats can use one
/// directly.
#[derive(Debug)]
pub struct Meter<B> {
    budget: B,
    expansion: Option<ExpansionLimit>,
    archive_bytes: u64,
    content_bytes: u64,
}

impl<B: Budget> Meter<B> {
    /// A meter for one archive.
    pub fn new(budget: B, expansion: Option<ExpansionLimit>) -> Self {
        Self {
            budget,
            expansion,
            archive_bytes: 0,
            content_bytes: 0,
        }
    }

    /// Counts entries.
    pub fn count_entries(&mut self, count: u64) -> Result<(), Error> {
        self.budget
            .take_entries(count)
            .map_err(Error::too_many_entries)
    }

    /// Counts bytes of content.
    pub(crate) fn count_content(&mut self, bytes: u64) -> Result<(), Error> {
        self.content_bytes += bytes;
        self.budget
            .take_content_bytes(bytes)
            .map_err(Error::too_many_bytes)?;
        self.check_expansion()
    }

    /// Counts bytes of a hole that the caller does not read. They are content, but need neither
    /// time nor space, so the expansion ratio does not include them.
    pub(crate) fn count_hole(&mut self, bytes: u64) -> Result<(), Error> {
        self.budget
            .take_content_bytes(bytes)
            .map_err(Error::too_many_bytes)
    }

    /// Counts bytes of the decompressed archive.
    pub(crate) fn count_archive(&mut self, bytes: u64) -> Result<(), Error> {
        self.archive_bytes += bytes;
        self.budget
            .take_archive_bytes(bytes)
            .map_err(Error::too_many_bytes)?;
        self.check_expansion()
    }

    /// Checks the expansion ratio with the larger number: only `content_bytes` includes the holes
    /// that are read, and only `archive_bytes` includes headers.
    fn check_expansion(&self) -> Result<(), Error> {
        let Some(limit) = &self.expansion else {
            return Ok(());
        };
        let unpacked = self.archive_bytes.max(self.content_bytes);
        if unpacked > limit.free_bytes && unpacked / limit.max_ratio > limit.packed.get() {
            let message = format!(
                "the archive expands to more than {} times its own size",
                limit.max_ratio
            );
            return Err(Error::new(ErrorKind::Expansion, message));
        }
        Ok(())
    }
}

/// Counts the content of one entry while it is read. Holes that the reader fills in count too.
#[derive(Debug)]
pub struct ContentReader<'m, R, B> {
    inner: R,
    meter: &'m RefCell<Meter<B>>,
}

impl<'m, R: Read, B: Budget> ContentReader<'m, R, B> {
    /// Reads `inner`, and counts its bytes in `meter`.
    pub fn new(inner: R, meter: &'m RefCell<Meter<B>>) -> Self {
        Self { inner, meter }
    }
}

impl<R: Read, B: Budget> Read for ContentReader<'_, R, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.borrow_mut().count_content(count as u64)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bounds;

    const BOUNDS: Bounds = Bounds {
        entries: 10,
        archive_bytes: 1000,
        content_bytes: 1000,
    };

    #[test]
    fn the_ratio_is_checked_beyond_the_free_bytes() {
        let limit = ExpansionLimit {
            free_bytes: 100,
            max_ratio: 10,
            packed: ByteCount::of(20),
        };
        let mut meter = Meter::new(BOUNDS, Some(limit));
        meter.count_content(209).unwrap();
        meter.count_archive(209).unwrap();
        let error = meter.count_content(1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Expansion, "{error}");
    }

    #[test]
    fn a_packed_archive_may_not_be_larger_than_its_limit() {
        let mut reader = CountingReader::new(&[0; 10][..], 9);
        let count = reader.count();
        let error = Error::from(reader.read_to_end(&mut Vec::new()).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::TooManyBytes);
        assert_eq!(count.get(), 10);
    }
}
