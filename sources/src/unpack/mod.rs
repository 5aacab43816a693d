//! Unpacks a module from a file, the layers of an image, or a package.
//!
//! The format is recognised by the first bytes, not by a name or a media type. The digest of the
//! input is already verified, but its author may be hostile: a small archive can expand to a huge
//! file or to millions of entries (a decompression bomb). All sizes and counts are therefore
//! limited, and nothing is written to the paths in an archive.

mod archive;
mod budget;
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

pub(crate) use budget::Limits;
use budget::damaged;
pub(crate) use content::Content;
pub(crate) use image::image;
pub(crate) use wasmer::wasmer_package;

use crate::package::Defaults;
use crate::{Error, ErrorKind};

/// A module, and the defaults that it is started with.
pub(crate) struct Unpacked {
    pub(crate) module: Bytes,
    pub(crate) defaults: Defaults,
}

/// The most layers of compression around a module.
const MAX_DEPTH: u32 = 2;

/// The number of bytes that are enough to recognise an archive.
const HEAD: u64 = 512;

/// The module in one file: the file itself, a compressed file, or an archive with one module.
pub(crate) fn file(content: Content, limits: Limits) -> Result<Bytes, Error> {
    let mut content = content;
    for _ in 0..=MAX_DEPTH {
        let mut head = Vec::new();
        decompress::plain(&content)
            .and_then(|reader| reader.take(HEAD).read_to_end(&mut head))
            .map_err(|error| damaged(&error))?;
        // An archive is read as a stream, and is never held in memory.
        if archive::is_tar(&head) {
            return image(
                1,
                &mut |_| content.try_clone().map_err(|error| damaged(&error)),
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
        // The result is the module, or is compressed once more.
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
        format!("the file is compressed more than {MAX_DEPTH} times"),
    ))
}

fn bomb(limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the archive expands to more than {limit} bytes"),
    )
    .with_hint("ask the operator to raise `sources.maxModuleSize`; an archive may contain four times as much")
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
    fn a_plain_file_is_not_changed() {
        for bytes in [MODULE, b"", b"<html>", b"\x1f"] {
            assert_eq!(unpacked(Bytes::from_static(bytes)).unwrap(), bytes);
        }
    }

    #[test]
    fn zeros_behind_compressed_data_are_padding_and_other_bytes_are_damage() {
        let padded = [&gzip(MODULE)[..], &[0; 512]].concat();
        assert_eq!(unpacked(padded.into()).unwrap(), MODULE);
        let members = [gzip(b""), gzip(&MODULE[..5]), gzip(&MODULE[5..])].concat();
        assert_eq!(unpacked(members.into()).unwrap(), MODULE);
        let garbage = [&gzip(MODULE)[..], b"more"].concat();
        assert_eq!(unpacked(garbage.into()), Err(ErrorKind::Protocol));
    }

    #[test]
    fn archives_from_before_posix_are_recognised() {
        let mut archive = Vec::new();
        for (name, content) in [("bin/", &b""[..]), ("bin/app.wasm", MODULE)] {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[156] = 0;
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.extend_from_slice(header.as_bytes());
            archive.extend_from_slice(content);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        assert_eq!(unpacked(gzip(&archive)).unwrap(), MODULE);
        assert_eq!(unpacked(archive.into()).unwrap(), MODULE);
    }

    #[test]
    fn a_module_may_be_a_sparse_file() {
        let mut builder = tar::Builder::new(Vec::new());
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "app.wasm"),
            ("GNU.sparse.realsize", "20"),
        ];
        builder
            .append_pax_extensions(records.map(|(key, value)| (key, value.as_bytes())))
            .unwrap();
        let mut content = b"1\n0\n8\n".to_vec();
        content.resize(512, 0);
        content.extend_from_slice(MODULE);
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, "GNUSparseFile.7/app.wasm", &content[..])
            .unwrap();
        let archive = builder.into_inner().unwrap();
        assert_eq!(
            unpacked(archive.into()).unwrap(),
            [MODULE, &[0; 12]].concat()
        );
    }

    #[test]
    fn repeated_compression_is_refused() {
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
