//! Decompresses gzip and zstd. The format is recognised by the first bytes.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use untrusted_tar::{GzipReader, skip_zeros};

use super::Content;

/// The largest window, in bytes, which `zstd --ultra -22` needs. The header of a frame could ask
/// for gigabytes.
const ZSTD_WINDOW: u64 = 128 << 20;

/// Reads the decompressed content. Content that is not compressed is read as it is.
pub(super) fn plain(content: &Content) -> io::Result<Box<dyn Read + '_>> {
    match reader(content)? {
        Some(reader) => Ok(reader),
        None => content.reader(),
    }
}

/// Reads the decompressed content. `None` if the content is not compressed.
pub(super) fn reader(content: &Content) -> io::Result<Option<Box<dyn Read + '_>>> {
    Ok(match content.head()?.as_slice() {
        [0x1f, 0x8b, ..] => Some(Box::new(GzipReader::new(BufReader::new(content.reader()?)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Some(Box::new(Zstd::new(BufReader::new(content.reader()?))))
        }
        _ => None,
    })
}

/// Reads all frames of a zstd file (RFC 8878). Skippable frames, which hold data of other tools,
/// are left out. Zeros behind a frame are padding.
struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW);
        Self {
            source,
            frame,
            in_frame: false,
        }
    }

    /// Starts the next frame. `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !skip_zeros(&mut self.source)? {
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                // The header of the skippable frame is already read.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::Error::other("a skippable frame is truncated"));
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                self.in_frame = self.next_frame()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let decoded = self
                    .frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(io::Error::other)?;
            }
            let count = self.frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.in_frame = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn all_frames_are_read_and_skippable_frames_and_padding_are_left_out() {
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let bytes = [
            &skippable[..],
            &frame(b"hello "),
            &skippable,
            &frame(b"world"),
            &[0; 512],
            &skippable,
            &[0; 512],
        ]
        .concat();
        let mut text = String::new();
        reader(&Bytes::from(bytes.clone()).into())
            .unwrap()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hello world");
        let mut none = Vec::new();
        let cut = Bytes::copy_from_slice(&bytes[..9]).into();
        assert!(
            reader(&cut)
                .unwrap()
                .unwrap()
                .read_to_end(&mut none)
                .is_err(),
            "a truncated skippable frame is an error"
        );
    }
}
