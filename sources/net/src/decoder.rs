//! Decoders of content codings.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, GzDecoder, ZlibDecoder};

use crate::padding::zeros;
use crate::zstd::{self, ZstdDecoder};

/// The coded bytes that are decoded at once. Deflate expands at most 1032 times, so one slice
/// yields at most about 4 MiB. The reader counts these bytes before the next slice is decoded.
pub(crate) const SLICE: usize = 4 << 10;
/// The slice of Zstandard: four bytes of it stand for at most 128 KiB.
const ZSTD_SLICE: usize = 128;
/// The first bytes of a member of gzip (RFC 1952, 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A decoder for bytes as they arrive.
pub(crate) enum Decoder {
    Gzip(GzDecoder<Vec<u8>>),
    /// Behind a member of a gzip body.
    GzipEnd,
    /// Behind a member of a gzip body and the first byte of [`GZIP_MAGIC`].
    GzipMagic,
    /// The first bytes of a deflate body, until there are enough to detect its format.
    DeflateStart(Vec<u8>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
    /// Behind a deflate body.
    DeflateEnd,
    Zstd(Box<ZstdDecoder>),
}

impl Decoder {
    pub(crate) fn for_coding(coding: &str) -> Option<Self> {
        match coding {
            "gzip" | "x-gzip" => Some(Self::Gzip(GzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::DeflateStart(Vec::new())),
            "zstd" => Some(Self::Zstd(Box::new(ZstdDecoder::new()))),
            _ => None,
        }
    }

    /// The coded bytes that are decoded at once.
    pub(crate) fn slice(&self) -> usize {
        match self {
            Self::Zstd(_) => ZSTD_SLICE,
            _ => SLICE,
        }
    }

    /// The decoded bytes that the decoder may keep.
    pub(crate) fn kept(&self) -> u64 {
        match self {
            Self::Zstd(_) => zstd::MAX_WINDOW,
            _ => 0,
        }
    }

    pub(crate) fn write(&mut self, mut chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoded = Vec::new();
        while !chunk.is_empty() {
            let read = self.step(chunk, &mut decoded)?;
            chunk = &chunk[read..];
        }
        Ok(decoded)
    }

    /// Decodes a part of the bytes. Returns the number of bytes that were read: zero if only the
    /// state changed.
    fn step(&mut self, chunk: &[u8], decoded: &mut Vec<u8>) -> io::Result<usize> {
        let read = match self {
            Self::Gzip(decoder) => {
                let read = decoder.write(chunk)?;
                decoded.append(decoder.get_mut());
                read
            }
            Self::Zlib(decoder) => {
                let read = decoder.write(chunk)?;
                decoded.append(decoder.get_mut());
                read
            }
            Self::Raw(decoder) => {
                let read = decoder.write(chunk)?;
                decoded.append(decoder.get_mut());
                read
            }
            Self::Zstd(decoder) => {
                decoded.extend(decoder.write(chunk)?);
                return Ok(chunk.len());
            }
            Self::DeflateStart(start) => {
                start.extend_from_slice(chunk);
                if let [first, second, ..] = start[..] {
                    let start = std::mem::take(start);
                    *self = match is_zlib(first, second) {
                        true => Self::Zlib(ZlibDecoder::new(Vec::new())),
                        false => Self::Raw(DeflateDecoder::new(Vec::new())),
                    };
                    decoded.extend(self.write(&start)?);
                }
                return Ok(chunk.len());
            }
            Self::GzipEnd if chunk.first() == Some(&GZIP_MAGIC[0]) => {
                *self = Self::GzipMagic;
                return Ok(1);
            }
            Self::GzipMagic if chunk.first() == Some(&GZIP_MAGIC[1]) => {
                let mut decoder = GzDecoder::new(Vec::new());
                decoder.write_all(&GZIP_MAGIC)?;
                *self = Self::Gzip(decoder);
                return Ok(1);
            }
            Self::GzipMagic => return Err(other_bytes()),
            Self::GzipEnd | Self::DeflateEnd => match zeros(chunk) {
                0 => return Err(other_bytes()),
                count => return Ok(count),
            },
        };
        if read == 0 {
            // A decoder reads nothing behind the end of its content.
            let next = match self {
                Self::Gzip(_) => Self::GzipEnd,
                _ => Self::DeflateEnd,
            };
            decoded.extend(std::mem::replace(self, next).finish()?);
        }
        Ok(read)
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            // Behind the checksum, the decoder reads nothing. Its own error does not say whether
            // the checksum is wrong or cut off.
            Self::Gzip(mut decoder) => match decoder.write(&[0]) {
                Ok(0) => decoder.finish(),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Self::Zlib(decoder) => decoder.finish(),
            Self::Raw(decoder) => decoder.finish(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::GzipEnd | Self::DeflateEnd => Ok(Vec::new()),
            Self::GzipMagic => Err(other_bytes()),
            Self::DeflateStart(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn other_bytes() -> io::Error {
    io::Error::other("other bytes follow the coded content")
}

/// Whether a deflate body begins with the header of zlib (RFC 1950, 2.2). A raw body never does: in
/// its first byte, the bits that mark zlib would be padding, which encoders set to zero.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31)
}
