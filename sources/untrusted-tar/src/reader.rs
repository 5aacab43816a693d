//! Iterates over the entries of an archive.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};

use tar::{Archive, EntryType};

use crate::bounds::Budget;
use crate::error::{Error, ErrorKind};
use crate::meter::{ContentReader, ExpansionLimit, Meter};
use crate::path::plain_path;

/// Size of a block, and of a header without extensions.
const BLOCK: usize = 512;
/// Largest header of an entry, in bytes. The entries before it that hold a long name, a long link
/// or PAX records belong to the header: the `tar` crate reads them into memory.
const MAX_HEADER: u64 = 1 << 20;

/// Whether a block is the header of an entry: its checksum is correct. The checksum counts its own
/// field as spaces.
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let actual = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    tar::Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|expected| expected == actual)
}

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A hard link: a second name of an earlier entry.
    HardLink,
    /// A device, a pipe, a global PAX header, or an unknown type.
    Other,
}

/// Treatment of sparse files: files with holes, which the archive does not store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sparse {
    /// A sparse file is an error.
    #[default]
    Refuse,
    /// The holes of a sparse file are read as zeros, and count as content.
    Expand,
}

/// Treatment of the bytes after the end marker of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trailer {
    /// The bytes are not read.
    #[default]
    Ignore,
    /// Up to this many bytes are read and dropped. A decompressor verifies its checksum at the end
    /// of its input.
    Drain(u64),
}

/// Reads an uncompressed archive.
#[derive(Debug)]
pub struct TarReader<R, B> {
    source: R,
    budget: B,
    expansion: Option<ExpansionLimit>,
    sparse: Sparse,
    trailer: Trailer,
}

impl<R: Read, B: Budget> TarReader<R, B> {
    /// Reads `source` within `budget`. Sparse files are refused, and bytes after the end marker are
    /// ignored.
    pub fn new(source: R, budget: B) -> Self {
        Self {
            source,
            budget,
            expansion: None,
            sparse: Sparse::default(),
            trailer: Trailer::default(),
        }
    }

    /// Limits the expansion ratio.
    #[must_use]
    pub fn expansion(mut self, limit: ExpansionLimit) -> Self {
        self.expansion = Some(limit);
        self
    }

    /// Sets the treatment of sparse files.
    #[must_use]
    pub fn sparse(mut self, sparse: Sparse) -> Self {
        self.sparse = sparse;
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
        let allowance = Cell::new(MAX_HEADER);
        let mut archive = Archive::new(ArchiveReader {
            inner: self.source,
            meter: &meter,
            allowance: &allowance,
        });
        for entry in archive.entries().map_err(Error::from)? {
            let mut entry = entry.map_err(Error::from)?;
            allowance.set(u64::MAX);
            meter.borrow_mut().count_entries(1)?;
            let mut entry = Entry {
                kind: kind(entry.header(), self.sparse)?,
                path: entry.path_bytes().into_owned(),
                link: entry.link_name_bytes().map(Cow::into_owned),
                mode: entry.header().mode().ok(),
                content: &mut ContentReader::new(&mut entry, &meter),
            };
            each(&mut entry)?;
            io::copy(entry.content, &mut io::sink()).map_err(Error::from)?;
            allowance.set(MAX_HEADER);
        }
        if let Trailer::Drain(limit) = self.trailer {
            let rest = archive.into_inner().inner;
            io::copy(&mut rest.take(limit), &mut io::sink()).map_err(Error::from)?;
        }
        Ok(())
    }
}

fn kind(header: &tar::Header, sparse: Sparse) -> Result<Kind, Error> {
    Ok(match header.entry_type() {
        EntryType::GNUSparse if sparse == Sparse::Refuse => {
            let error = Error::new(ErrorKind::Sparse, "the archive contains a sparse file");
            return Err(error.with_hint(
                "create the archive without sparse files, for example without `--sparse` of GNU tar",
            ));
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        _ => Kind::Other,
    })
}

/// One entry of an archive. Reading the entry returns the content of the entry.
pub struct Entry<'a> {
    kind: Kind,
    path: Vec<u8>,
    link: Option<Vec<u8>>,
    mode: Option<u32>,
    content: &'a mut dyn Read,
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

/// The archive as the `tar` crate reads it. It counts all bytes, and gives no more than `allowance`
/// bytes.
struct ArchiveReader<'m, R, B> {
    inner: R,
    meter: &'m RefCell<Meter<B>>,
    /// Bytes that may still be read: [`MAX_HEADER`] for a header, and any number for content.
    allowance: &'m Cell<u64>,
}

impl<R: Read, B: Budget> Read for ArchiveReader<'_, R, B> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.allowance.get())
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            let message =
                format!("the header of an entry in the archive is larger than {MAX_HEADER} bytes");
            return Err(Error::new(ErrorKind::HeaderTooLarge, message).into());
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.allowance.update(|allowance| allowance - count as u64);
        self.meter.borrow_mut().count_archive(count as u64)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;
    use crate::Bounds;

    const BOUNDS: Bounds = Bounds {
        entries: 10,
        archive_bytes: 4 << 20,
        content_bytes: 1 << 20,
    };

    fn read(archive: &[u8], sparse: Sparse) -> Result<Vec<Kind>, Error> {
        let mut kinds = Vec::new();
        TarReader::new(archive, BOUNDS)
            .sparse(sparse)
            .for_each(|entry| {
                kinds.push(entry.kind());
                Ok::<(), Error>(())
            })?;
        Ok(kinds)
    }

    fn failure(archive: &[u8], sparse: Sparse) -> ErrorKind {
        read(archive, sparse).unwrap_err().kind()
    }

    fn entry(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header
    }

    #[test]
    fn a_header_takes_a_bounded_amount_of_memory() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
        ] {
            let header = entry(kind, 2 << 20);
            let archive = [header.as_bytes(), &vec![b'n'; 2 << 20][..], &[0; 1024]].concat();
            assert_eq!(
                failure(&archive, Sparse::Refuse),
                ErrorKind::HeaderTooLarge,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn holes_are_refused_or_counted() {
        let mut header = entry(EntryType::GNUSparse, 0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 33);
        gnu.sparse[0].offset = *b"100000000000";
        gnu.sparse[0].numbytes = *b"00000000000\0";
        header.set_cksum();
        let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        assert_eq!(failure(&archive, Sparse::Refuse), ErrorKind::Sparse);
        assert_eq!(failure(&archive, Sparse::Expand), ErrorKind::TooManyBytes);
    }

    #[test]
    fn every_entry_counts() {
        let mut builder = Builder::new(Vec::new());
        for kind in [EntryType::Fifo, EntryType::Directory, EntryType::Regular] {
            for number in 0..4 {
                builder
                    .append_data(&mut entry(kind, 0), format!("{number}"), io::empty())
                    .unwrap();
            }
        }
        let archive = builder.into_inner().unwrap();
        assert_eq!(failure(&archive, Sparse::Refuse), ErrorKind::TooManyEntries);
    }

    #[test]
    fn content_counts_if_it_is_skipped() {
        let mut builder = Builder::new(Vec::new());
        let size = BOUNDS.content_bytes + 1;
        builder
            .append_data(
                &mut entry(EntryType::Regular, size),
                "a",
                io::repeat(0).take(size),
            )
            .unwrap();
        let archive = builder.into_inner().unwrap();
        assert_eq!(failure(&archive, Sparse::Refuse), ErrorKind::TooManyBytes);
    }

    #[test]
    fn damage_is_an_error() {
        assert_eq!(
            failure(&[b'x'; 1024], Sparse::Refuse),
            ErrorKind::Unreadable
        );
        let mut builder = Builder::new(Vec::new());
        builder
            .append_data(&mut entry(EntryType::Regular, 600), "a", &[1; 600][..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        assert_eq!(read(&archive, Sparse::Refuse).unwrap(), [Kind::File]);
        assert_eq!(
            failure(&archive[..700], Sparse::Refuse),
            ErrorKind::Unreadable
        );
        assert!(is_header(archive[..BLOCK].try_into().unwrap()));
        assert!(!is_header(archive[BLOCK..2 * BLOCK].try_into().unwrap()));
    }

    #[test]
    fn errors_of_the_source_keep_their_type() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
        }
        let error = TarReader::new(Broken, BOUNDS)
            .for_each(|_| Ok::<(), io::Error>(()))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
