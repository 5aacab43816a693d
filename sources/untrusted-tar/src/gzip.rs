//! Decompresses gzip (RFC 1952).

use std::io::{self, BufRead, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::error::{Error, ErrorKind};

/// Magic number of gzip (RFC 1952, 2.3.1).
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The compression method that gzip uses.
const DEFLATE: u8 = 8;

/// Flags of a header (RFC 1952, 2.3.1).
mod flag {
    pub(super) const HEADER_CRC: u8 = 1 << 1;
    pub(super) const EXTRA: u8 = 1 << 2;
    pub(super) const NAME: u8 = 1 << 3;
    pub(super) const COMMENT: u8 = 1 << 4;
    pub(super) const RESERVED: u8 = 0b1110_0000;
}

/// Reads all members of a gzip file.
///
/// Zeros behind a member are padding, for example up to the block size of a tape. Other bytes
/// behind the members are an error of the kind [`ErrorKind::TrailingGarbage`]. The decompressed
/// bytes before the error are complete, and their checksums are verified.
#[derive(Debug)]
pub struct GzipReader<R> {
    inflate: DeflateDecoder<R>,
    crc: Crc,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the header of the first member.
    Start,
    /// In the compressed data of a member.
    Data,
    /// Behind a member.
    Between,
    /// At the end of the file.
    End,
}

impl<R: BufRead> GzipReader<R> {
    /// Decompresses `source`.
    pub fn new(source: R) -> Self {
        Self {
            inflate: DeflateDecoder::new(source),
            crc: Crc::new(),
            state: State::Start,
        }
    }

    /// Starts the next member, if there is one.
    fn start(&mut self) -> io::Result<State> {
        let source = self.inflate.get_mut();
        if self.state == State::Between && skip_zeros(source)? {
            return Ok(State::End);
        }
        let mut magic = [0; 2];
        let is_gzip = read_array(source, &mut magic)? && magic == MAGIC;
        match (is_gzip, self.state) {
            (true, _) => {}
            (false, State::Between) => {
                let message = "bytes that are not gzip follow the compressed data";
                return Err(Error::new(ErrorKind::TrailingGarbage, message).into());
            }
            (false, _) => return Err(Error::damaged("the file is not gzip").into()),
        }
        skip_header(source)?;
        self.inflate.reset_data();
        self.crc.reset();
        Ok(State::Data)
    }

    /// Verifies the checksum and the length at the end of a member.
    fn verify(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.inflate.get_mut().read_exact(&mut trailer)?;
        let expected = u64::from_le_bytes(trailer);
        let actual = u64::from(self.crc.sum()) | u64::from(self.crc.amount()) << 32;
        match expected == actual {
            true => Ok(()),
            false => Err(Error::damaged("the checksum of the gzip data is wrong").into()),
        }
    }
}

impl<R: BufRead> Read for GzipReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::End => return Ok(0),
                State::Start | State::Between => self.state = self.start()?,
                State::Data => {
                    let count = self.inflate.read(buffer)?;
                    if count > 0 {
                        self.crc.update(&buffer[..count]);
                        return Ok(count);
                    }
                    self.verify()?;
                    self.state = State::Between;
                }
            }
        }
    }
}

/// Skips zeros, which pad a compressed file. Returns whether the source ends with them.
pub fn skip_zeros(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        if bytes.is_empty() {
            return Ok(true);
        }
        let zeros = bytes.iter().position(|byte| *byte != 0);
        let count = zeros.unwrap_or(bytes.len());
        source.consume(count);
        if zeros.is_some() {
            return Ok(false);
        }
    }
}

/// Skips the rest of a header, behind the magic number.
fn skip_header(source: &mut impl BufRead) -> io::Result<()> {
    let mut fixed = [0; 8];
    source.read_exact(&mut fixed)?;
    let [method, flags, ..] = fixed;
    if method != DEFLATE || flags & flag::RESERVED != 0 {
        return Err(Error::damaged("the header of the gzip data is invalid").into());
    }
    if flags & flag::EXTRA != 0 {
        let mut length = [0; 2];
        source.read_exact(&mut length)?;
        skip(source, u64::from(u16::from_le_bytes(length)))?;
    }
    for text in [flag::NAME, flag::COMMENT] {
        if flags & text != 0 {
            source.skip_until(0)?;
        }
    }
    if flags & flag::HEADER_CRC != 0 {
        skip(source, 2)?;
    }
    Ok(())
}

fn skip(source: &mut impl Read, length: u64) -> io::Result<()> {
    match io::copy(&mut source.take(length), &mut io::sink())? == length {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Fills the array. `false` if the source ends before.
fn read_array(source: &mut impl Read, array: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(array) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The text before the end or the error, and the error.
    fn gunzip(bytes: &[u8]) -> (String, Option<Error>) {
        let mut text = String::new();
        // The buffer ends within headers and trailers.
        let error = GzipReader::new(BufReader::with_capacity(1, bytes)).read_to_string(&mut text);
        (text, error.err().map(Error::from))
    }

    #[test]
    fn all_members_are_read_and_zeros_are_padding() {
        let one = gzip(b"one ");
        let empty = gzip(b"");
        let mut named = b"\x1f\x8b\x08\x1e\0\0\0\0\0\0\x02\0xxname\0comment\0cc".to_vec();
        named.extend_from_slice(&gzip(b"two")[10..]);
        for (parts, expected) in [
            (vec![&one[..]], "one "),
            (vec![&one, &named], "one two"),
            (vec![&empty, &one, &empty, &named, &empty], "one two"),
            (vec![&one, &[0; 1000]], "one "),
            (vec![&one, &[0; 3], &named, &[0]], "one two"),
            (vec![&empty], ""),
        ] {
            let (text, error) = gunzip(&parts.concat());
            assert_eq!(text, expected);
            assert!(error.is_none(), "{expected}: {error:?}");
        }
    }

    #[test]
    fn garbage_is_an_error_behind_the_content() {
        for garbage in [&b"\x1f"[..], b"x", b"\0\0x", b"\x1f\x8a more"] {
            let (text, error) = gunzip(&[&gzip(b"one"), garbage].concat());
            assert_eq!(text, "one", "{garbage:?}");
            assert_eq!(error.unwrap().kind(), ErrorKind::TrailingGarbage);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let whole = gzip(&[b'x'; 1000]);
        for length in 0..whole.len() {
            let (_, error) = gunzip(&whole[..length]);
            assert_eq!(error.unwrap().kind(), ErrorKind::Unreadable, "{length}");
        }
        for position in (0..4).chain(whole.len() - 8..whole.len()) {
            let mut damaged = whole.clone();
            damaged[position] ^= 0xe0;
            let (_, error) = gunzip(&damaged);
            assert_eq!(error.unwrap().kind(), ErrorKind::Unreadable, "{position}");
        }
        let (text, error) = gunzip(&[&whole[..], &whole[..9]].concat());
        assert_eq!(text.len(), 1000);
        assert_eq!(error.unwrap().kind(), ErrorKind::Unreadable);
    }
}
