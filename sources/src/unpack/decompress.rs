//! Compressed content, told by its first bytes.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// As much as `zstd -19` asks for, and no more: a frame's header could ask for gigabytes.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Reads what is compressed in `bytes`. `None` when nothing is.
pub(super) fn reader(bytes: &[u8]) -> Option<Box<dyn Read + '_>> {
    match bytes {
        [0x1f, 0x8b, ..] => Some(Box::new(MultiGzDecoder::new(bytes))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(Box::new(Zstd { rest: bytes, frame: None }))
        }
        _ => None,
    }
}

/// All frames of a zstd file, one after the other (RFC 8878). Tools write many, and some that only they understand.
struct Zstd<'a> {
    rest: &'a [u8],
    frame: Option<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>,
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
                self.rest = self.frame.take().map_or(self.rest, StreamingDecoder::into_inner);
            }
            if self.rest.is_empty() {
                return Ok(0);
            }
            match StreamingDecoder::new_with_max_window_size(self.rest, ZSTD_WINDOW) {
                Ok(frame) => self.frame = Some(frame),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = (length as usize).checked_add(8).and_then(|end| self.rest.get(end..));
                    self.rest = skipped.ok_or_else(|| io::Error::other("a frame ends too soon"))?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn several_frames_and_skippable_ones() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let bytes = [&skippable[..], &frame(b"hello "), &skippable, &frame(b"world"), &skippable].concat();
        let mut text = String::new();
        reader(&bytes).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
        let mut none = Vec::new();
        assert!(reader(&bytes[..9]).unwrap().read_to_end(&mut none).is_err(), "a skippable frame that is cut");
    }
}
