//! Whole objects, held to the checksum that the server keeps of them.
//!
//! The SDK checks what comes in one answer. Of a part there is no checksum; of most objects there is one of the whole (`x-amz-checksum-type: FULL_OBJECT`), and
//! the parts come in order.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use crate::{Error, ErrorKind};

/// A checksum of a whole object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Checksum {
    algorithm: CrcAlgorithm,
    value: u64,
}

impl Checksum {
    /// The one that the server names, if it is of the whole and cheap to compute.
    pub(super) fn of(head: &HeadObjectOutput) -> Option<Self> {
        if head.checksum_type() != Some(&ChecksumType::FullObject) {
            return None;
        }
        let named = [
            (CrcAlgorithm::Crc64Nvme, 8, head.checksum_crc64_nvme()),
            (CrcAlgorithm::Crc32Iscsi, 4, head.checksum_crc32_c()),
            (CrcAlgorithm::Crc32IsoHdlc, 4, head.checksum_crc32()),
        ];
        named.into_iter().find_map(|(algorithm, length, text)| {
            let bytes = STANDARD
                .decode(text?)
                .ok()
                .filter(|bytes| bytes.len() == length)?;
            Some(Self {
                algorithm,
                value: bytes
                    .into_iter()
                    .fold(0, |value, byte| value << 8 | u64::from(byte)),
            })
        })
    }

    /// The same stream, which is an error in the end where it is another object's.
    pub(super) fn hold(
        self,
        stream: BoxStream<'static, Result<Bytes, Error>>,
    ) -> BoxStream<'static, Result<Bytes, Error>> {
        let Self { algorithm, value } = self;
        let held = stream::unfold(
            (stream, Digest::new(algorithm), false),
            move |(mut stream, mut digest, ended)| async move {
                if ended {
                    return None;
                }
                match stream.next().await {
                    Some(chunk) => {
                        if let Ok(bytes) = &chunk {
                            digest.update(bytes);
                        }
                        Some((chunk, (stream, digest, false)))
                    }
                    None if digest.finalize() == value => None,
                    None => {
                        let message = "what came is not what the store keeps a checksum of";
                        Some((
                            Err(Error::new(ErrorKind::Unavailable, message)),
                            (stream, digest, true),
                        ))
                    }
                }
            },
        );
        held.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(
        kind: ChecksumType,
    ) -> aws_sdk_s3::operation::head_object::builders::HeadObjectOutputBuilder {
        HeadObjectOutput::builder().checksum_type(kind)
    }

    async fn comes(head: &HeadObjectOutput, text: &'static str) -> bool {
        let (first, rest) = text.split_at(text.len() / 2);
        let stream = stream::iter([first, rest].map(|piece| Ok(Bytes::from(piece)))).boxed();
        Checksum::of(head)
            .unwrap()
            .hold(stream)
            .all(|chunk| std::future::ready(chunk.is_ok()))
            .await
    }

    /// The check values of the CRC catalogue, of `123456789`.
    #[tokio::test]
    async fn what_is_another_is_an_error() {
        let known = |bytes: &[u8]| Some(STANDARD.encode(bytes));
        let full = || head(ChecksumType::FullObject);
        for head in [
            full()
                .set_checksum_crc64_nvme(known(&0xae8b_1486_0a79_9888_u64.to_be_bytes()))
                .build(),
            full()
                .set_checksum_crc32_c(known(&0xe306_9283_u32.to_be_bytes()))
                .build(),
            full()
                .set_checksum_crc32(known(&0xcbf4_3926_u32.to_be_bytes()))
                .build(),
        ] {
            assert!(comes(&head, "123456789").await, "{head:?}");
            assert!(!comes(&head, "123456780").await, "{head:?}");
        }
        assert_eq!(Checksum::of(&full().build()), None);
        assert_eq!(Checksum::of(&full().checksum_crc32("short").build()), None);
        assert_eq!(
            Checksum::of(
                &head(ChecksumType::Composite)
                    .checksum_crc32("y/Q5Jg==")
                    .build()
            ),
            None
        );
    }
}
