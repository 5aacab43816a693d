//! The content of one entry.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::bounds::Budget;
use crate::meter::Meter;
use crate::sparse::Map;

/// Content that may have holes.
pub(crate) trait Content: Read {
    /// Skips the hole at the current position, and returns its length. 0 if there is no hole.
    fn skip_hole(&mut self) -> io::Result<u64>;

    /// Skips the rest of the content.
    fn skip(&mut self) -> io::Result<()>;
}

/// Reads the content of a file: segments from the archive, and zeros for holes. It counts the bytes
/// of the file.
pub(crate) struct FileReader<'a, R, B> {
    archive: R,
    meter: &'a RefCell<Meter<B>>,
    map: &'a Map,
    /// Index of the segment at or behind `position`.
    next: usize,
    /// Position in the file.
    position: u64,
}

/// The part of a file at the current position.
enum Part {
    /// This many bytes are in the archive.
    Stored(u64),
    /// This many bytes are zeros. 0 at the end of the file.
    Hole(u64),
}

impl<'a, R: Read, B: Budget> FileReader<'a, R, B> {
    /// Reads the segments of `map` from `archive`.
    pub(crate) fn new(archive: R, meter: &'a RefCell<Meter<B>>, map: &'a Map) -> Self {
        Self {
            archive,
            meter,
            map,
            next: 0,
            position: 0,
        }
    }

    fn part(&mut self) -> Part {
        while let Some(segment) = self.map.segment(self.next) {
            if self.position < segment.offset {
                return Part::Hole(segment.offset - self.position);
            }
            if self.position < segment.end() {
                return Part::Stored(segment.end() - self.position);
            }
            self.next += 1;
        }
        Part::Hole(self.map.size() - self.position)
    }
}

impl<R: Read, B: Budget> Read for FileReader<'_, R, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.part();
        let (Part::Stored(left) | Part::Hole(left)) = part;
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = match part {
            Part::Stored(_) => self.archive.read(&mut buffer[..most])?,
            Part::Hole(_) => most,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.meter.borrow_mut().count_content(count as u64)?;
        if let Part::Hole(_) = part {
            buffer[..count].fill(0);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: Read, B: Budget> Content for FileReader<'_, R, B> {
    fn skip_hole(&mut self) -> io::Result<u64> {
        let Part::Hole(length) = self.part() else {
            return Ok(0);
        };
        self.meter.borrow_mut().count_hole(length)?;
        self.position += length;
        Ok(length)
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            self.skip_hole()?;
            if self.read(&mut buffer)? == 0 {
                return Ok(());
            }
        }
    }
}
