//! Decodes Zstandard (RFC 8878) as the bytes arrive.

use std::io;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::padding::zeros;

/// The largest window that a server may use for a content coding (RFC 9659).
pub(crate) const MAX_WINDOW: u64 = 8 << 20;
/// The largest content of a block, in bytes (RFC 8878, 3.1.1.2.3).
const MAX_BLOCK: usize = 128 << 10;
const MAGIC: u32 = 0xfd2f_b528;
/// The magic numbers of frames with data of other tools, without their last four bits.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;

/// The part of the format that comes next.
enum Next {
    FrameHeader,
    /// Behind a frame: padding, or the header of another frame.
    Between,
    /// Bytes of a skippable frame.
    Skipped(usize),
    /// A block of a frame, which may end with a checksum.
    Block {
        has_checksum: bool,
    },
}

/// A decoder of frames. It decodes each block as soon as the block is complete.
pub(crate) struct ZstdDecoder {
    frame: FrameDecoder,
    /// Received bytes that are not decoded yet: at most one block and the last chunk.
    buffer: Vec<u8>,
    next: Next,
}

impl ZstdDecoder {
    pub(crate) fn new() -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW);
        Self {
            frame,
            buffer: Vec::new(),
            next: Next::FrameHeader,
        }
    }

    /// The content that `chunk` completes. Four bytes of a chunk can stand for 128 KiB.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        self.buffer.extend_from_slice(chunk);
        self.skip_padding();
        let mut decoded = Vec::new();
        while let Some(length) = self.next_length()? {
            let part: Vec<u8> = self.buffer.drain(..length).collect();
            self.decode(&part, &mut decoded)?;
            self.skip_padding();
        }
        Ok(decoded)
    }

    /// Skips zeros behind a frame. No frame begins with a zero.
    fn skip_padding(&mut self) {
        if matches!(self.next, Next::Between) {
            self.buffer.drain(..zeros(&self.buffer));
        }
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match (self.next, self.buffer.is_empty()) {
            (Next::FrameHeader | Next::Between, true) => Ok(Vec::new()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The length of the next part. `None` if the part is not complete.
    fn next_length(&self) -> io::Result<Option<usize>> {
        let length = match self.next {
            Next::FrameHeader | Next::Between => frame_header_length(&self.buffer)?,
            Next::Skipped(rest) => Some(rest.min(self.buffer.len()).max(1)),
            Next::Block { has_checksum } => block_length(&self.buffer, has_checksum)?,
        };
        Ok(length.filter(|length| *length <= self.buffer.len()))
    }

    fn decode(&mut self, part: &[u8], decoded: &mut Vec<u8>) -> io::Result<()> {
        self.next = match self.next {
            Next::FrameHeader | Next::Between => match skipped_length(part) {
                Some(0) => Next::Between,
                Some(length) => Next::Skipped(length),
                None => {
                    self.frame.reset(part).map_err(io::Error::other)?;
                    Next::Block {
                        has_checksum: part[4] & 0b100 != 0,
                    }
                }
            },
            Next::Skipped(rest) if rest > part.len() => Next::Skipped(rest - part.len()),
            Next::Skipped(_) => Next::Between,
            Next::Block { has_checksum } => {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let blocks = self.frame.decode_blocks(part, one);
                blocks.map_err(io::Error::other)?;
                decoded.extend(self.frame.collect().unwrap_or_default());
                match self.frame.is_finished() {
                    true => {
                        self.check()?;
                        Next::Between
                    }
                    false => Next::Block { has_checksum },
                }
            }
        };
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        let expected = self.frame.get_checksum_from_data();
        if expected.is_some() && expected != self.frame.get_calculated_checksum() {
            return Err(io::Error::other("the checksum of a frame is wrong"));
        }
        Ok(())
    }
}

fn magic(bytes: &[u8]) -> Option<u32> {
    let bytes = bytes.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The length of the content of a skippable frame (RFC 8878, 3.1.2). `None` for another frame.
fn skipped_length(header: &[u8]) -> Option<usize> {
    let is_skippable = magic(header)? & !0xf == SKIPPABLE_MAGIC;
    let length = magic(header.get(4..)?).filter(|_| is_skippable)?;
    usize::try_from(length).ok()
}

/// The length of a frame's header (RFC 8878, 3.1.1.1). `None` if more bytes are needed.
fn frame_header_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    // The first byte of the magic numbers, which are in little-endian order.
    if !matches!(bytes.first(), None | Some(0x28 | 0x50..=0x5f)) {
        return Err(io::Error::other("this is not Zstandard"));
    }
    let (Some(magic), Some(descriptor)) = (magic(bytes), bytes.get(4)) else {
        return Ok(None);
    };
    if magic & !0xf == SKIPPABLE_MAGIC {
        return Ok(Some(8));
    }
    if magic != MAGIC {
        return Err(io::Error::other("this is not Zstandard"));
    }
    let is_single_segment = descriptor & 0b10_0000 != 0;
    let window = usize::from(!is_single_segment);
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 0b11)];
    let content_size = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        flag => 1 << flag,
    };
    Ok(Some(5 + window + dictionary + content_size))
}

/// The length of a block with its header, and with the checksum after the last block (RFC 8878,
/// 3.1.1.2). `None` if more bytes are needed.
fn block_length(bytes: &[u8], has_checksum: bool) -> io::Result<Option<usize>> {
    const REPEATED_BYTE: usize = 1;
    let Some([first, second, third]) = bytes.first_chunk::<3>().copied() else {
        return Ok(None);
    };
    let header = u32::from_le_bytes([first, second, third, 0]) as usize;
    let size = header >> 3;
    if size > MAX_BLOCK {
        return Err(io::Error::other("a block is too large"));
    }
    let content = match (header >> 1) & 0b11 {
        REPEATED_BYTE => 1,
        _ => size,
    };
    let is_last = header & 1 != 0;
    let checksum = if is_last && has_checksum { 4 } else { 0 };
    Ok(Some(3 + content + checksum))
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn decode(bytes: &[u8], chunk: usize) -> io::Result<Vec<u8>> {
        let mut decoder = ZstdDecoder::new();
        let mut whole = Vec::new();
        for chunk in bytes.chunks(chunk) {
            whole.extend(decoder.write(chunk)?);
        }
        whole.extend(decoder.finish()?);
        Ok(whole)
    }

    #[test]
    fn frames_are_decoded_in_chunks_of_any_size() {
        let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let frame = compress_to_vec(&content[..], CompressionLevel::Fastest);
        // A skippable frame with three bytes, and an empty one.
        let skipped = b"\x52\x2a\x4d\x18\x03\0\0\0abc\x50\x2a\x4d\x18\0\0\0\0";
        let whole = [&skipped[..], &frame, skipped, &frame].concat();
        for chunk in [1, 7, 64, 1 << 20] {
            assert_eq!(decode(&whole, chunk).unwrap(), content.repeat(2), "{chunk}");
        }
        for cut in [3, 5, frame.len() / 2, frame.len() - 1] {
            let error = decode(&frame[..cut], 64).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[test]
    fn damaged_frames_are_errors() {
        assert!(decode(b"this is not Zstandard", 4).is_err());
        let frame = compress_to_vec(&[7; 1000][..], CompressionLevel::Fastest);
        let mut header = frame.clone();
        header[4] |= 0b11;
        assert!(
            decode(&header, 1).is_err(),
            "a dictionary that does not exist"
        );
        // A window of 3.75 TiB.
        assert!(decode(b"\x28\xb5\x2f\xfd\0\xff\x01\0\0", 1).is_err());
    }
}
