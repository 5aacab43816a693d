//! Verifies a whole object against the checksum that the server stores for it.
//!
//! The SDK verifies the checksum of a single response. A response with a part of an object has no
//! checksum. Most servers store a CRC of the whole object (`x-amz-checksum-type: FULL_OBJECT`), and
//! the parts of a download arrive in order, so the CRC can be computed on the way.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use futures::stream;

use crate::store::ByteStream;
use crate::{Error, ErrorKind};

/// Checksum of a whole object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Checksum {
    algorithm: CrcAlgorithm,
    value: u64,
}

/// State of [`Checksum::verify`].
struct Verification {
    stream: ByteStream,
    digest: Digest,
    failed: bool,
}

impl Checksum {
    /// The CRC of the whole object, if the server stores one.
    pub(super) fn of(head: &HeadObjectOutput) -> Option<Self> {
        if head.checksum_type() != Some(&ChecksumType::FullObject) {
            return None;
        }
        let candidates = [
            (CrcAlgorithm::Crc64Nvme, 8, head.checksum_crc64_nvme()),
            (CrcAlgorithm::Crc32Iscsi, 4, head.checksum_crc32_c()),
            (CrcAlgorithm::Crc32IsoHdlc, 4, head.checksum_crc32()),
        ];
        candidates
            .into_iter()
            .find_map(|(algorithm, length, text)| {
                let bytes = STANDARD
                    .decode(text?)
                    .ok()
                    .filter(|bytes| bytes.len() == length)?;
                let value = bytes
                    .into_iter()
                    .fold(0, |value, byte| value << 8 | u64::from(byte));
                Some(Self { algorithm, value })
            })
    }

    /// Adds an error to the end of the stream if its content does not match the checksum.
    pub(super) fn verify(self, stream: ByteStream) -> ByteStream {
        let start = Verification {
            stream,
            digest: Digest::new(self.algorithm),
            failed: false,
        };
        stream::unfold(start, move |mut state| async move {
            if state.failed {
                return None;
            }
            match state.stream.next().await {
                Some(chunk) => {
                    if let Ok(bytes) = &chunk {
                        state.digest.update(bytes);
                    }
                    Some((chunk, state))
                }
                None if state.digest.finalize() == self.value => None,
                None => {
                    state.failed = true;
                    let message = "the received data does not match the checksum of the object";
                    Some((Err(Error::new(ErrorKind::Unavailable, message)), state))
                }
            }
        })
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::head_object::builders::HeadObjectOutputBuilder;
    use bytes::Bytes;

    use super::*;

    fn head(kind: ChecksumType) -> HeadObjectOutputBuilder {
        HeadObjectOutput::builder().checksum_type(kind)
    }

    async fn matches(head: &HeadObjectOutput, text: &'static str) -> bool {
        let (first, rest) = text.split_at(text.len() / 2);
        let stream = stream::iter([first, rest].map(|chunk| Ok(Bytes::from(chunk)))).boxed();
        Checksum::of(head)
            .unwrap()
            .verify(stream)
            .all(|chunk| std::future::ready(chunk.is_ok()))
            .await
    }

    /// The check values of the CRC catalogue, which are those of `123456789`.
    #[tokio::test]
    async fn data_with_another_checksum_is_an_error() {
        let encoded = |bytes: &[u8]| Some(STANDARD.encode(bytes));
        let full = || head(ChecksumType::FullObject);
        for head in [
            full()
                .set_checksum_crc64_nvme(encoded(&0xae8b_1486_0a79_9888_u64.to_be_bytes()))
                .build(),
            full()
                .set_checksum_crc32_c(encoded(&0xe306_9283_u32.to_be_bytes()))
                .build(),
            full()
                .set_checksum_crc32(encoded(&0xcbf4_3926_u32.to_be_bytes()))
                .build(),
        ] {
            assert!(matches(&head, "123456789").await, "{head:?}");
            assert!(!matches(&head, "123456780").await, "{head:?}");
        }
        assert_eq!(Checksum::of(&full().build()), None);
        assert_eq!(Checksum::of(&full().checksum_crc32("short").build()), None);
        let composite = head(ChecksumType::Composite)
            .checksum_crc32("y/Q5Jg==")
            .build();
        assert_eq!(Checksum::of(&composite), None);
    }
}
