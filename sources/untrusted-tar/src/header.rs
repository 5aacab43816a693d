//! The header block of an entry.
//!
//! The layouts of V7, POSIX ("ustar") and old GNU archives are described in `tar.5` of libarchive
//! and in GNU tar's manual, "Basic Tar Format". Jörg Schilling's star has one more layout.

use std::ops::Range;

use crate::error::Error;

/// Size of a block, and of a header without extensions.
pub(crate) const BLOCK: usize = 512;

/// One block of an archive.
pub(crate) type Block = [u8; BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;

/// Whether a block is the header of an entry: its checksum is correct. The checksum counts its own
/// field as spaces. Some old programs summed signed bytes.
pub fn is_header(block: &[u8; BLOCK]) -> bool {
    let unsigned: u64 = summed(block).map(u64::from).sum();
    let signed: i64 = summed(block)
        .map(|byte| i64::from(byte.cast_signed()))
        .sum();
    number(&block[CHECKSUM]).is_some_and(|expected| {
        expected == unsigned || i64::try_from(expected).is_ok_and(|expected| expected == signed)
    })
}

/// The bytes of a block for its checksum.
fn summed(block: &Block) -> impl Iterator<Item = u8> + '_ {
    let field = CHECKSUM.map(|_| b' ');
    block[..CHECKSUM.start]
        .iter()
        .copied()
        .chain(field)
        .chain(block[CHECKSUM.end..].iter().copied())
}

/// Whether a block has only zeros. Such blocks end an archive.
pub(crate) fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Layout of a header. The fields before the magic are the same in all layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Before POSIX. The fields behind the magic are not used.
    V7,
    /// POSIX, with or without PAX.
    Posix,
    /// GNU tar before PAX.
    Gnu,
    /// star, which has sparse files of its own in a POSIX header.
    Star,
}

/// A header with a correct checksum.
pub(crate) struct Header {
    block: Block,
}

impl Header {
    /// The header in `block`. `None` if the checksum is wrong.
    pub(crate) fn new(block: &Block) -> Option<Self> {
        is_header(block).then_some(Self { block: *block })
    }

    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    pub(crate) fn layout(&self) -> Layout {
        match &self.block[MAGIC] {
            b"ustar  \0" => Layout::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => match &self.block[STAR_MAGIC] {
                b"tar\0" => Layout::Star,
                _ => Layout::Posix,
            },
            _ => Layout::V7,
        }
    }

    /// Type of the entry: the character in the header.
    pub(crate) fn type_flag(&self) -> u8 {
        self.block[TYPE]
    }

    /// Path of the entry, with the prefix of POSIX.
    pub(crate) fn path(&self) -> Vec<u8> {
        let prefix = match self.layout() {
            Layout::Posix => text(&self.block[PREFIX]),
            Layout::Star => text(&self.block[STAR_PREFIX]),
            Layout::V7 | Layout::Gnu => &[],
        };
        let name = text(&self.block[NAME]);
        match prefix {
            [] => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    /// Target of a link.
    pub(crate) fn link(&self) -> Vec<u8> {
        text(&self.block[LINK]).to_vec()
    }

    pub(crate) fn mode(&self) -> Option<u32> {
        u32::try_from(number(&self.block[MODE])?).ok()
    }

    /// Number of bytes behind the header, without padding.
    pub(crate) fn size(&self) -> Result<u64, Error> {
        number(&self.block[SIZE])
            .ok_or_else(|| Error::damaged("the header of an entry has an invalid size"))
    }
}

/// A text ends at its first NUL byte, or fills its field.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// The number in a field: octal digits between spaces and NUL bytes, or binary if the highest bit
/// is set. An empty field is 0. `None` for a negative number, and above `i64::MAX`.
pub(crate) fn number(field: &[u8]) -> Option<u64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
    .filter(|number| i64::try_from(*number).is_ok())
}

/// A big-endian number in two's complement behind the highest bit.
fn binary(field: &[u8]) -> Option<u64> {
    let is_negative = field[0] & 0x40 != 0;
    let first = u64::from(field[0] & 0x7f);
    let append = |number: u64, byte: &u8| Some(number.checked_mul(256)? + u64::from(*byte));
    match is_negative {
        true => None,
        false => field[1..].iter().try_fold(first, append),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0));
    let digits = text(&field[start.unwrap_or(field.len())..]).trim_ascii_end();
    digits.iter().try_fold(0u64, |number, digit| match digit {
        b'0'..=b'7' => Some(number.checked_mul(8)? + u64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o77_777_777)),
            (b"644\0 junk", Some(0o644)),
            (b"0000008\0", None),
            (b"-0000001", None),
            (b"0x1f\0", None),
            (b"\x80\0\0\0\x02\0\0\0\0", Some(1 << 33)),
            (b"\xff\xff\xff\xff", None),
            (b"\x80\x80\0\0\0\0\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn a_checksum_of_signed_bytes_is_correct_too() {
        let mut block = [0; BLOCK];
        block[..5].copy_from_slice("gr\u{fc}n".as_bytes());
        let unsigned: u32 = summed(&block).map(u32::from).sum();
        // Two bytes are above 127.
        for (sum, expected) in [
            (unsigned, true),
            (unsigned - 512, true),
            (unsigned - 1, false),
        ] {
            block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(is_header(&block), expected, "{sum}");
        }
    }
}
