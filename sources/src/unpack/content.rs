//! What is unpacked: in memory, or where it is large, in a file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use bytes::Bytes;

/// Enough to tell what it is: the magic of tar stands at 257.
const HEAD: u64 = 512;

/// One part.
#[derive(Debug)]
pub(crate) enum Content {
    /// Its bytes.
    Memory(Bytes),
    /// A file that has its digest.
    File(File),
}

impl Content {
    /// The same once more.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Memory(bytes) => Self::Memory(bytes.clone()),
            Self::File(file) => Self::File(file.try_clone()?),
        })
    }

    /// Reads it from the beginning. One reader at a time.
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

    /// Its first bytes.
    pub(super) fn head(&self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.reader()?.take(HEAD).read_to_end(&mut head)?;
        Ok(head)
    }

    /// All of it, and one byte more than `limit` at most.
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
