//! The maps of sparse files: which parts of a file the archive stores. The other parts are holes.

use std::io::Read;

use crate::error::{Error, ErrorKind};
use crate::header::{BLOCK, Block, Header, number};
use crate::pax::{SparseRecords, decimal};

/// Most segments of one file. They are held in memory.
const MAX_SEGMENTS: usize = 1 << 18;
/// Size of an entry in a map of old GNU tar or star.
const ENTRY: usize = 24;
/// Entries in an extension block.
const ENTRIES: usize = 21;
/// Position of the byte that says whether another extension block follows.
const IS_EXTENDED: usize = ENTRIES * ENTRY;

/// A part of a file that the archive stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Segment {
    pub(crate) fn end(self) -> u64 {
        self.offset + self.length
    }
}

/// The segments of a file, in order, and its length. Behind, between and before the segments are
/// holes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Map {
    segments: Vec<Segment>,
    size: u64,
}

impl Map {
    /// The map of a file without holes.
    pub(crate) fn whole(size: u64) -> Self {
        Self {
            segments: vec![Segment {
                offset: 0,
                length: size,
            }],
            size,
        }
    }

    /// The segments must be in order, inside of the file, and may not overlap.
    pub(crate) fn new(segments: Vec<Segment>, size: u64) -> Result<Self, Error> {
        let mut end = 0;
        for segment in &segments {
            let segment_end = segment.offset.checked_add(segment.length);
            if segment.offset < end || segment_end.is_none_or(|end| end > size) {
                return Err(malformed());
            }
            end = segment.end();
        }
        Ok(Self { segments, size })
    }

    pub(crate) fn segment(&self, index: usize) -> Option<Segment> {
        self.segments.get(index).copied()
    }

    /// Length of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Number of bytes that the archive stores.
    fn stored(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// The map of an entry of type `S` by GNU tar, with `stored` bytes of content. Extension blocks
    /// follow the header.
    pub(crate) fn old_gnu(
        header: &Header,
        stored: u64,
        archive: &mut dyn Read,
    ) -> Result<Self, Error> {
        let block = header.block();
        let mut segments = Vec::new();
        add_entries(&block[386..482], &mut segments)?;
        if block[482] != 0 {
            add_extensions(archive, &mut segments)?;
        }
        let size = number(&block[483..495]).ok_or_else(malformed)?;
        Self::new(segments, size)?.storing(stored)
    }

    /// The map of an entry of type `S` by star, with `stored` bytes of extension blocks and
    /// content. `real_size` is the length of the file, if a PAX record has it.
    pub(crate) fn star(
        header: &Header,
        stored: u64,
        real_size: Option<u64>,
        archive: &mut dyn Read,
    ) -> Result<Self, Error> {
        let block = header.block();
        let mut segments = Vec::new();
        let mut extensions = 0;
        // A long path takes the place of the map. Then the map is in extension blocks.
        let is_in_header = block[345] == 0 && block[366] != 0;
        if is_in_header {
            add_entries(&block[356..452], &mut segments)?;
        }
        if !is_in_header || block[355] != 0 {
            extensions = add_extensions(archive, &mut segments)?;
        }
        let size = real_size.or_else(|| number(&block[452..464]));
        let stored = stored.checked_sub(extensions);
        Self::new(segments, size.ok_or_else(malformed)?)?.storing(stored.ok_or_else(malformed)?)
    }

    /// The map of a sparse file with PAX records. `None` if the records do not describe a sparse
    /// file. In format 1.0, the map is at the beginning of the `stored` bytes of content.
    pub(crate) fn pax(
        records: &SparseRecords,
        stored: u64,
        archive: &mut dyn Read,
    ) -> Result<Option<Self>, Error> {
        let (segments, stored) = match (records.major, records.minor) {
            (None, None) if !records.has_map && records.blocks != Some(0) => {
                return match records.name.is_some() || records.size.is_some() {
                    true => Err(malformed()),
                    false => Ok(None),
                };
            }
            (None, None) | (Some(0), Some(0 | 1)) => (segments_in(records)?, stored),
            (Some(1), Some(0)) => {
                let map = StoredMap::read(archive, stored)?;
                (map.segments, stored - map.length)
            }
            (major, minor) => {
                return Err(Error::unsupported(format!(
                    "the archive has a sparse file in the format {}.{} of GNU tar",
                    major.unwrap_or(0),
                    minor.unwrap_or(0)
                )));
            }
        };
        let size = records.size.ok_or_else(malformed)?;
        Self::new(segments, size)?.storing(stored).map(Some)
    }

    /// The archive must store the segments and nothing else.
    fn storing(self, stored: u64) -> Result<Self, Error> {
        match self.stored() == stored {
            true => Ok(self),
            false => Err(malformed()),
        }
    }
}

/// The segments of the formats 0.0 and 0.1.
fn segments_in(records: &SparseRecords) -> Result<Vec<Segment>, Error> {
    let count = u64::try_from(records.map.len()).unwrap_or(u64::MAX);
    if records
        .blocks
        .is_some_and(|blocks| blocks.checked_mul(2) != Some(count))
    {
        return Err(malformed());
    }
    let (pairs, []) = records.map.as_chunks() else {
        return Err(malformed());
    };
    let mut segments = Vec::new();
    for [offset, length] in pairs {
        add(&mut segments, *offset, *length)?;
    }
    Ok(segments)
}

/// The map of format 1.0: decimal numbers, each with a newline, padded to whole blocks. The first
/// number is the number of segments.
struct StoredMap {
    segments: Vec<Segment>,
    /// Length of the map in the archive, with padding.
    length: u64,
}

impl StoredMap {
    /// Reads the map, which is not longer than `stored` bytes.
    fn read(archive: &mut dyn Read, stored: u64) -> Result<Self, Error> {
        let mut numbers = Numbers {
            archive,
            stored,
            length: 0,
            block: [0; BLOCK],
            position: BLOCK,
        };
        let count = numbers.next()?;
        let mut segments = Vec::new();
        for _ in 0..count {
            let offset = numbers.next()?;
            let length = numbers.next()?;
            add(&mut segments, offset, length)?;
        }
        let length = numbers.length;
        Ok(Self { segments, length })
    }
}

/// Numbers with newlines in the blocks of an archive.
struct Numbers<'a> {
    archive: &'a mut dyn Read,
    stored: u64,
    /// Bytes read so far.
    length: u64,
    block: Block,
    position: usize,
}

impl Numbers<'_> {
    fn next(&mut self) -> Result<u64, Error> {
        /// Digits of `i64::MAX`.
        const LONGEST: usize = 19;
        let mut digits = Vec::with_capacity(LONGEST);
        loop {
            match self.byte()? {
                b'\n' => return decimal(&digits).ok_or_else(malformed),
                _ if digits.len() == LONGEST => return Err(malformed()),
                digit => digits.push(digit),
            }
        }
    }

    fn byte(&mut self) -> Result<u8, Error> {
        if self.position == BLOCK {
            if self.stored - self.length < BLOCK as u64 {
                return Err(malformed());
            }
            self.archive.read_exact(&mut self.block)?;
            self.length += BLOCK as u64;
            self.position = 0;
        }
        self.position += 1;
        Ok(self.block[self.position - 1])
    }
}

/// Adds the segments in extension blocks. Returns the length of the blocks.
fn add_extensions(archive: &mut dyn Read, segments: &mut Vec<Segment>) -> Result<u64, Error> {
    let mut block = [0; BLOCK];
    for count in 1..=(MAX_SEGMENTS / ENTRIES) as u64 {
        archive.read_exact(&mut block)?;
        add_entries(&block[..IS_EXTENDED], segments)?;
        if block[IS_EXTENDED] == 0 {
            return Ok(count * BLOCK as u64);
        }
    }
    Err(too_many_segments())
}

/// Adds the entries of a header or of an extension block. An empty entry ends them.
fn add_entries(entries: &[u8], segments: &mut Vec<Segment>) -> Result<(), Error> {
    for entry in entries.as_chunks::<ENTRY>().0 {
        let (offset, length) = entry.split_at(ENTRY / 2);
        if offset[0] == 0 || length[0] == 0 {
            break;
        }
        let offset = number(offset).ok_or_else(malformed)?;
        let length = number(length).ok_or_else(malformed)?;
        add(segments, offset, length)?;
    }
    Ok(())
}

fn add(segments: &mut Vec<Segment>, offset: u64, length: u64) -> Result<(), Error> {
    if segments.len() == MAX_SEGMENTS {
        return Err(too_many_segments());
    }
    segments.push(Segment { offset, length });
    Ok(())
}

fn too_many_segments() -> Error {
    let message = format!("a sparse file in the archive has more than {MAX_SEGMENTS} segments");
    Error::new(ErrorKind::HeaderTooLarge, message)
}

fn malformed() -> Error {
    Error::damaged("the map of a sparse file in the archive is malformed")
}
