//! From what was downloaded to the module in it.
//!
//! What a thing is shows in its first bytes, and not in what somebody calls it. Everything here works in memory on bytes that have
//! their digest already, and nothing is ever written where an archive says. Bounds hold for what comes out: a small archive can hold a
//! large file, and a great many small ones.

mod archive;
mod content;
mod decompress;
mod image;
mod wasmer;
mod wasmer_manifest;
mod webc;
#[cfg(test)]
mod webc_tests;

use std::io::Read;

use bytes::Bytes;

pub(crate) use content::Content;
pub(crate) use image::image;
pub(crate) use wasmer::wasmer_package;

use crate::package::Defaults;
use crate::{Error, ErrorKind};

/// Bounds on what comes out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest module, in bytes.
    pub(crate) module: u64,
}

impl Limits {
    /// The most that may come out of one archive or layer. Larger images than that are not modules.
    fn unpacked(self) -> u64 {
        self.module.saturating_mul(4)
    }
}

/// A module, and what it is started with.
pub(crate) struct Unpacked {
    pub(crate) module: Bytes,
    pub(crate) defaults: Defaults,
}

/// The most entries that all archives of one package may have.
const MAX_ENTRIES: u64 = 100_000;

/// The most bytes of paths in them: 160 for each.
const MAX_NAMES: usize = 16 << 20;

/// What all archives of one package may still hold.
struct Budget {
    entries: u64,
    /// Bytes of paths, those of links included: they are kept, and what they are in is not.
    names: usize,
    bytes: u64,
    whole: u64,
}

impl Budget {
    fn new(limits: Limits) -> Self {
        Self {
            entries: MAX_ENTRIES,
            names: MAX_NAMES,
            bytes: limits.unpacked(),
            whole: limits.unpacked(),
        }
    }
}

/// An archive in a compressed file, and no deeper.
const MAX_DEPTH: u32 = 2;

/// Enough to tell an archive.
const HEAD: u64 = 512;

/// The module in one file, which may be compressed, or an archive with one module.
pub(crate) fn file(content: Content, limits: Limits) -> Result<Bytes, Error> {
    let mut content = content;
    for _ in 0..=MAX_DEPTH {
        let mut head = Vec::new();
        decompress::plain(&content)
            .and_then(|reader| reader.take(HEAD).read_to_end(&mut head))
            .map_err(|error| damaged(&error))?;
        // Read as it comes, and never whole.
        if archive::is_tar(&head) {
            return image(
                1,
                &mut |_| content.again().map_err(|error| damaged(&error)),
                None,
                limits,
            );
        }
        let Some(reader) = decompress::reader(&content).map_err(|error| damaged(&error))? else {
            return content
                .bytes(limits.module)
                .map_err(|error| damaged(&error));
        };
        let mut inner = Vec::new();
        // What comes out is the module, or is compressed again.
        reader
            .take(limits.module + 1)
            .read_to_end(&mut inner)
            .map_err(|error| damaged(&error))?;
        if inner.len() as u64 > limits.module {
            return Err(bomb(limits.module));
        }
        content = Bytes::from(inner).into();
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "it is compressed again and again",
    ))
}

fn damaged(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the archive is damaged: {error}"),
    )
}

fn bomb(limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("more than {limit} bytes come out of the archive"),
    )
    .hint("the operator sets `sources.maxModuleSize`; an archive may hold four times as much")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub(super) const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    pub(super) const LIMITS: Limits = Limits { module: 1 << 20 };

    pub(super) fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn unpacked(bytes: Bytes) -> Result<Bytes, ErrorKind> {
        file(bytes.into(), LIMITS).map_err(|error| error.kind())
    }

    #[test]
    fn what_is_not_packed_stays_as_it_is() {
        for bytes in [MODULE, b"", b"<html>", b"\x1f"] {
            assert_eq!(unpacked(Bytes::from_static(bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn gzip_once_and_not_for_ever() {
        assert_eq!(unpacked(gzip(MODULE)).unwrap(), MODULE);
        let mut nested = Bytes::from_static(MODULE);
        for _ in 0..5 {
            nested = gzip(&nested);
        }
        assert_eq!(unpacked(nested), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn bombs_and_damage_are_errors() {
        assert_eq!(unpacked(gzip(&vec![0; 5 << 20])), Err(ErrorKind::TooLarge));
        let whole = gzip(&[7; 10_000]);
        assert_eq!(
            unpacked(whole.slice(..whole.len() - 9)),
            Err(ErrorKind::Protocol)
        );
        assert_eq!(
            unpacked(Bytes::from_static(b"\x28\xb5\x2f\xfd\xff\xff")),
            Err(ErrorKind::Protocol)
        );
    }
}
