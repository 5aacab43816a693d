//! Iterates over the entries of an archive.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::bounds::Budget;
use crate::content::{Content, FileReader};
use crate::error::{Error, ErrorKind};
use crate::member::{Kind, Members, Source};
use crate::meter::{ExpansionLimit, Meter};
use crate::path::plain_path;

/// Treatment of the bytes after the end marker of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trailer {
    /// The bytes are not read.
    #[default]
    Ignore,
    /// Up to this many bytes are read and dropped. A decompressor verifies its checksum at the end
    /// of its input. Bytes after the compressed data are allowed, as by `gzip`.
    Drain(u64),
}

/// Reads an uncompressed archive.
#[derive(Debug)]
pub struct TarReader<R, B> {
    source: R,
    budget: B,
    expansion: Option<ExpansionLimit>,
    trailer: Trailer,
}

impl<R: Read, B: Budget> TarReader<R, B> {
    /// Reads `source` within `budget`. Bytes after the end marker are ignored.
    pub fn new(source: R, budget: B) -> Self {
        Self {
            source,
            budget,
            expansion: None,
            trailer: Trailer::default(),
        }
    }

    /// Limits the expansion ratio.
    #[must_use]
    pub fn expansion(mut self, limit: ExpansionLimit) -> Self {
        self.expansion = Some(limit);
        self
    }

    /// Sets the treatment of the bytes after the end marker.
    #[must_use]
    pub fn trailer(mut self, trailer: Trailer) -> Self {
        self.trailer = trailer;
        self
    }

    /// Calls `each` with every entry, in order. Content that `each` does not read is skipped.
    /// Skipped content counts, too.
    ///
    /// # Errors
    ///
    /// The first error of `each`, or of reading the archive.
    pub fn for_each<E: From<Error>>(
        self,
        mut each: impl FnMut(&mut Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let meter = RefCell::new(Meter::new(self.budget, self.expansion));
        let mut members = Members::new(Source::new(self.source, &meter));
        while let Some(member) = members.next()? {
            let mut content = FileReader::new(members.source(), &meter, &member.map);
            let mut entry = Entry {
                kind: member.kind,
                path: member.path,
                link: member.link,
                mode: member.mode,
                content: &mut content,
            };
            each(&mut entry)?;
            content.skip().map_err(Error::from)?;
            members.finish(&member.after)?;
        }
        if let Trailer::Drain(limit) = self.trailer {
            drain(&mut members.into_inner().take(limit))?;
        }
        Ok(())
    }
}

fn drain(rest: &mut impl Read) -> Result<(), Error> {
    match io::copy(rest, &mut io::sink()).map_err(Error::from) {
        Err(error) if error.kind() != ErrorKind::TrailingGarbage => Err(error),
        _ => Ok(()),
    }
}

/// One entry of an archive. Reading the entry returns the content of the entry. Holes are read as
/// zeros.
pub struct Entry<'a> {
    kind: Kind,
    path: Vec<u8>,
    link: Option<Vec<u8>>,
    mode: Option<u32>,
    content: &'a mut dyn Content,
}

impl Entry<'_> {
    /// Type of the entry.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Path of the entry; see [`plain_path`].
    pub fn path(&self) -> Result<String, Error> {
        plain_path(&self.path)
    }

    /// Target of a link, unchecked: the path of an earlier entry for a hard link, any text for a
    /// symbolic link.
    pub fn link(&self) -> Option<&[u8]> {
        self.link.as_deref()
    }

    /// Permission bits and file type, if the header has a valid mode.
    pub fn mode(&self) -> Option<u32> {
        self.mode
    }

    /// Skips the hole at the current position of a sparse file, and returns its length in bytes. 0
    /// if there is no hole. Only the content of the budget counts the hole.
    ///
    /// # Errors
    ///
    /// The hole is larger than the budget allows.
    pub fn skip_hole(&mut self) -> io::Result<u64> {
        self.content.skip_hole()
    }
}

impl Read for Entry<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer)
    }
}

impl std::fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind)
            .field("path", &String::from_utf8_lossy(&self.path))
            .finish_non_exhaustive()
    }
}
