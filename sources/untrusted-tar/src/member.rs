//! Reads the headers of an archive.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::bounds::Budget;
use crate::error::{Error, ErrorKind};
use crate::header::{BLOCK, Block, Header, Layout, is_header, is_zero};
use crate::meter::Meter;
use crate::pax::{Pax, check_global};
use crate::sparse::Map;

/// Largest header of an entry, in bytes. The entries before it that hold a long name, a long link
/// or PAX records belong to the header: they are read into memory.
const MAX_HEADER: u64 = 1 << 20;

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file. It may have holes.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link: a second name of an earlier entry.
    HardLink,
    /// A device, a pipe, the label of a volume, or an access control list.
    Other,
}

/// The bytes of an archive. All bytes are counted.
pub(crate) struct Source<'m, R, B> {
    inner: R,
    meter: &'m RefCell<Meter<B>>,
}

impl<'m, R: Read, B: Budget> Source<'m, R, B> {
    pub(crate) fn new(inner: R, meter: &'m RefCell<Meter<B>>) -> Self {
        Self { inner, meter }
    }

    /// The next block. `None` at the end of the source.
    fn block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = [0; BLOCK];
        let count = self.fill(&mut block)?;
        match count {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::damaged("the archive ends within a header")),
        }
    }

    /// Reads until the buffer is full or the source ends. Returns the number of bytes.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }
}

impl<R: Read, B: Budget> Read for Source<'_, R, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.meter.borrow_mut().count_archive(count as u64)?;
        Ok(count)
    }
}

/// An entry, before its content is read.
pub(crate) struct Member {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) mode: Option<u32>,
    /// The content that the caller sees. It is empty unless the entry is a file.
    pub(crate) map: Map,
    /// Bytes between the content and the next header.
    pub(crate) after: After,
}

/// Bytes after the content of an entry.
pub(crate) struct After {
    /// Bytes of an entry that is not a file.
    unused: u64,
    padding: usize,
}

/// The headers before the header of an entry.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    gnu_path: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
}

/// All entries of an archive.
pub(crate) struct Members<'m, R, B> {
    source: Source<'m, R, B>,
}

impl<'m, R: Read, B: Budget> Members<'m, R, B> {
    pub(crate) fn new(source: Source<'m, R, B>) -> Self {
        Self { source }
    }

    /// The content of the entry that [`Members::next`] returned last.
    pub(crate) fn source(&mut self) -> &mut Source<'m, R, B> {
        &mut self.source
    }

    /// The bytes after the end marker.
    pub(crate) fn into_inner(self) -> R {
        self.source.inner
    }

    /// The next entry. `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, Error> {
        let mut extensions = Extensions::default();
        let mut allowance = MAX_HEADER;
        let mut is_extended = false;
        while let Some(header) = self.header()? {
            allowance = allowance
                .checked_sub(BLOCK as u64)
                .ok_or_else(header_too_large)?;
            match header.type_flag() {
                b'g' => {
                    self.source.meter.borrow_mut().count_entries(1)?;
                    check_global(&self.meta(&header, &mut allowance)?)?;
                    continue;
                }
                // `X` is the header of Solaris from before the standard.
                b'x' | b'X' => {
                    extensions.pax = Pax::parse(&self.meta(&header, &mut allowance)?)?;
                }
                b'L' => extensions.gnu_path = Some(self.long_name(&header, &mut allowance)?),
                b'K' => extensions.gnu_link = Some(self.long_name(&header, &mut allowance)?),
                _ => {
                    self.source.meter.borrow_mut().count_entries(1)?;
                    return self.member(&header, extensions).map(Some);
                }
            }
            is_extended = true;
        }
        match is_extended {
            false => Ok(None),
            true => Err(Error::damaged(
                "the archive ends after a header that extends another",
            )),
        }
    }

    /// Skips the rest of the member, up to the next header.
    pub(crate) fn finish(&mut self, after: &After) -> Result<(), Error> {
        let skipped = io::copy(
            &mut self.source.by_ref().take(after.unused),
            &mut io::sink(),
        )?;
        if skipped < after.unused {
            return Err(Error::from(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        // The padding after the last entry may be missing.
        self.source.fill(&mut [0; BLOCK][..after.padding])?;
        Ok(())
    }

    /// The next header. `None` at the end of the archive: a block of zeros, or the end of the
    /// source.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let Some(block) = self.source.block()? else {
            return Ok(None);
        };
        if !is_zero(&block) {
            return Header::new(&block)
                .map(Some)
                .ok_or_else(|| Error::damaged("the checksum of a header in the archive is wrong"));
        }
        // Two blocks end an archive. Old programs wrote one, and anything may follow.
        let mut next = [0; BLOCK];
        let count = self.source.fill(&mut next)?;
        match count == BLOCK && !is_zero(&next) && is_header(&next) {
            true => Err(Error::damaged(
                "the archive has a block of zeros between two entries",
            )),
            false => Ok(None),
        }
    }

    /// The content of a header that extends the next one.
    fn meta(&mut self, header: &Header, allowance: &mut u64) -> Result<Vec<u8>, Error> {
        let size = header.size()?;
        *allowance = allowance.checked_sub(size).ok_or_else(header_too_large)?;
        let mut content = Vec::new();
        self.source.by_ref().take(size).read_to_end(&mut content)?;
        if (content.len() as u64) < size {
            return Err(Error::damaged("the archive ends within a header"));
        }
        self.source.fill(&mut [0; BLOCK][..padding(size)])?;
        Ok(content)
    }

    /// A long name or link target of GNU tar. It ends at the first NUL byte.
    fn long_name(&mut self, header: &Header, allowance: &mut u64) -> Result<Vec<u8>, Error> {
        let mut name = self.meta(header, allowance)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, Error> {
        let Extensions {
            pax,
            gnu_path,
            gnu_link,
        } = extensions;
        let path = gnu_path.or(pax.path).unwrap_or_else(|| header.path());
        let kind = kind(header.type_flag(), &path)?;
        let stored = match kind {
            Stored::Nothing(_) => 0,
            _ => pax.size.map_or_else(|| header.size(), Ok)?,
        };
        let sparse = &pax.sparse;
        let map = match (&kind, header.layout()) {
            (Stored::OldSparse, Layout::Star) => {
                Some(Map::star(header, stored, pax.real_size, &mut self.source)?)
            }
            (Stored::OldSparse, _) => Some(Map::old_gnu(header, stored, &mut self.source)?),
            (Stored::File, _) => Map::pax(sparse, stored, &mut self.source)?,
            _ => None,
        };
        let path = match (&map, pax.sparse.name) {
            (Some(_), Some(name)) => name,
            _ => path,
        };
        let is_file = matches!(kind, Stored::File | Stored::OldSparse);
        if is_file && map.is_none() && pax.real_size.is_some_and(|size| size != stored) {
            return Err(Error::unsupported(
                "the archive has the PAX keyword `SCHILY.realsize` for a file that is not sparse",
            ));
        }
        Ok(Member {
            kind: kind.kind(),
            path,
            link: kind
                .has_link()
                .then(|| gnu_link.or(pax.link).unwrap_or_else(|| header.link())),
            mode: header.mode(),
            map: map.unwrap_or_else(|| Map::whole(if is_file { stored } else { 0 })),
            after: After {
                unused: if is_file { 0 } else { stored },
                padding: padding(stored),
            },
        })
    }
}

/// What follows the header of an entry.
enum Stored {
    /// The content of a file.
    File,
    /// The segments of a file, by a map in the header.
    OldSparse,
    /// Nothing, whatever the size in the header is.
    Nothing(Kind),
    /// Content that is not used.
    Unused(Kind),
}

impl Stored {
    fn kind(&self) -> Kind {
        match self {
            Self::File | Self::OldSparse => Kind::File,
            Self::Nothing(kind) | Self::Unused(kind) => *kind,
        }
    }

    fn has_link(&self) -> bool {
        matches!(self.kind(), Kind::Symlink | Kind::HardLink)
    }
}

/// The meaning of the type in a header.
///
/// # Errors
///
/// An unknown type, or one whose meaning depends on another archive.
fn kind(type_flag: u8, path: &[u8]) -> Result<Stored, Error> {
    Ok(match type_flag {
        // Before POSIX, a directory was a file whose name ends in a slash.
        0 | b'0' | b'7' if path.ends_with(b"/") => Stored::Nothing(Kind::Directory),
        0 | b'0' | b'7' => Stored::File,
        b'S' => Stored::OldSparse,
        b'1' => Stored::Nothing(Kind::HardLink),
        b'2' => Stored::Nothing(Kind::Symlink),
        b'5' => Stored::Nothing(Kind::Directory),
        b'3' | b'4' | b'6' => Stored::Nothing(Kind::Other),
        // A directory with a list of its files, for incremental backups with GNU tar.
        b'D' => Stored::Unused(Kind::Directory),
        // The label of a volume by GNU tar; an access control list of Solaris.
        b'V' | b'A' => Stored::Unused(Kind::Other),
        _ => {
            let name = String::from_utf8_lossy(path);
            let name: String = name.chars().take(200).collect();
            let flag = type_flag.escape_ascii();
            let what = match type_flag {
                b'M' => ", a part of a file from another volume",
                b'N' => ", a list of long names",
                _ => "",
            };
            return Err(Error::unsupported(format!(
                "the entry `{name}` of the archive has the type `{flag}`{what}"
            )));
        }
    })
}

/// Bytes from the end of the content to the next block.
fn padding(size: u64) -> usize {
    let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - used) % BLOCK
}

fn header_too_large() -> Error {
    let message =
        format!("the header of an entry in the archive is larger than {MAX_HEADER} bytes");
    Error::new(ErrorKind::HeaderTooLarge, message)
}
