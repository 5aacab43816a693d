//! The content of one part: in memory, or in a file if it is large.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use bytes::Bytes;

/// The number of bytes that are enough to recognise a format: the magic of tar is at offset 257.
const HEAD: u64 = 512;

/// The content of one part. Its digest is verified.
#[derive(Debug)]
pub(crate) enum Content {
    /// The bytes.
    Memory(Bytes),
    /// A file in the store, or an unlinked file.
    File(File),
}

impl Content {
    /// A second handle to the same content. Both handles of a file share one position.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Memory(bytes) => Self::Memory(bytes.clone()),
            Self::File(file) => Self::File(file.try_clone()?),
        })
    }

    /// Reads the content from the beginning. Only one reader may be in use at a time, because the
    /// readers of a file share one position.
    pub(super) fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::Memory(bytes) => Box::new(&bytes[..]),
            Self::File(file) => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))?;
                Box::new(file)
            }
        })
    }

    /// The first bytes, for recognising the format.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader()?.take(HEAD).read_to_end(&mut head)?;
        Ok(head)
    }

    /// The content. From a file, at most `limit` + 1 bytes are read: the caller checks the limit.
    pub(super) fn bytes(&self, limit: u64) -> io::Result<Bytes> {
        if let Self::Memory(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        BufReader::new(self.reader()?)
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}
