//! Content codings (RFC 9110, 8.4). Requests never ask for a coding, but some servers use one
//! anyway.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::decoder::Decoder;
use crate::{Body, Error, ErrorKind};

/// The number of bytes by which a coded body may be larger than its decoded content. The reader
/// limits the decoded content.
const OVERHEAD: u64 = 1 << 20;
/// The largest number of codings of one body.
const MAX_CODINGS: usize = 4;

/// The body without the content codings that the headers name. Codings are undone in pieces, so a
/// caller that counts the bytes limits the decoded content.
///
/// gzip, deflate and Zstandard are undone. Deflate may be in the format of zlib, as RFC 9110
/// requires, or raw, as some servers send it. A body that ends too soon is a retryable error.
///
/// Zeros behind the coded content are padding, as in gzip files, and are ignored. Other bytes there
/// are damage.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] for any other coding, and for more than four codings.
pub fn decoded<E: From<Error> + Send + 'static>(
    body: Body<E>,
    headers: &HeaderMap,
    origin: &str,
) -> Result<Body<E>, Error> {
    let codings = codings(headers);
    if codings.is_empty() {
        return Ok(body);
    }
    let names = codings.join(", ");
    let unsupported = |message: String| {
        Error::new(ErrorKind::Unsupported, message).with_hint(
            "configure the server to send the file without a content coding, or with gzip, deflate \
             or zstd",
        )
    };
    if codings.len() > MAX_CODINGS {
        let message = format!("{origin} sends more than {MAX_CODINGS} content codings");
        return Err(unsupported(message));
    }
    let mut stream = body.stream;
    // The last coding was applied last.
    for coding in codings.iter().rev() {
        let decoder = Decoder::for_coding(coding).ok_or_else(|| {
            unsupported(format!(
                "{origin} sends the content coding `{coding}`, which the request did not ask for"
            ))
        })?;
        let damaged = format!("{origin} sends content whose coding `{names}` is damaged");
        stream = undo(stream, decoder, damaged);
    }
    // The announced length is that of the coded body.
    Ok(Body {
        stream,
        length: None,
    })
}

/// Whether the headers name a content coding that [`decoded`] undoes or refuses.
pub fn is_coded(headers: &HeaderMap) -> bool {
    !codings(headers).is_empty()
}

/// The codings in the order in which the server applied them.
fn codings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let named = values.flat_map(|value| {
        let value = String::from_utf8_lossy(value.as_bytes());
        let codings = value.split(',');
        let codings = codings.map(|coding| coding.trim().to_ascii_lowercase());
        codings.collect::<Vec<_>>()
    });
    // Some stores send these names, which are not content codings.
    let is_coding = |coding: &String| {
        !matches!(
            coding.as_str(),
            "" | "identity" | "none" | "binary" | "aws-chunked"
        )
    };
    named.filter(is_coding).collect()
}

/// The stream without one coding. `damaged` is the message for content that cannot be decoded.
fn undo<E: From<Error> + Send + 'static>(
    stream: BoxStream<'static, Result<Bytes, E>>,
    decoder: Decoder,
    damaged: String,
) -> BoxStream<'static, Result<Bytes, E>> {
    let coded = Coded {
        stream,
        decoder,
        pending: Bytes::new(),
        read: 0,
        decoded: 0,
        damaged,
    };
    stream::try_unfold(Some(coded), |coded| async move {
        let Some(mut coded) = coded else {
            return Ok(None);
        };
        Ok(match coded.next().await? {
            Some(bytes) => Some((bytes, Some(coded))),
            None => Some((coded.finish()?, None)),
        })
    })
    .boxed()
}

/// A coded body, and its decoder.
struct Coded<E> {
    stream: BoxStream<'static, Result<Bytes, E>>,
    decoder: Decoder,
    /// Received bytes that are not decoded yet.
    pending: Bytes,
    read: u64,
    decoded: u64,
    damaged: String,
}

impl<E: From<Error>> Coded<E> {
    /// The next decoded bytes. `None` at the end of the coded body.
    async fn next(&mut self) -> Result<Option<Bytes>, E> {
        loop {
            if self.pending.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(chunk) => self.pending = chunk,
                    None => return Ok(None),
                }
            }
            let slice = self
                .pending
                .split_to(self.pending.len().min(self.decoder.slice()));
            let decoded = self
                .decoder
                .write(&slice)
                .map_err(|error| self.failed(error))?;
            self.read += slice.len() as u64;
            self.decoded += decoded.len() as u64;
            let kept = self.decoder.kept().saturating_add(OVERHEAD);
            if self.read > self.decoded.saturating_add(kept) {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "{}: the decoded content is smaller than the coded content",
                        self.damaged
                    ),
                )
                .into());
            }
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
    }

    /// The bytes at the end. A body of no bytes has no content: servers announce a coding for empty
    /// files, too.
    fn finish(self) -> Result<Bytes, Error> {
        let Self {
            decoder,
            damaged,
            read,
            ..
        } = self;
        if read == 0 {
            return Ok(Bytes::new());
        }
        decoder
            .finish()
            .map(Bytes::from)
            .map_err(|error| explain(error, damaged))
    }

    fn failed(&self, error: io::Error) -> Error {
        explain(error, self.damaged.clone())
    }
}

/// A body that ends too soon is retryable: the connection may have broken off.
fn explain(error: io::Error, damaged: String) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::UnexpectedEof => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    Error::new(kind, damaged).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::decoder::SLICE;

    async fn decode(coding: &str, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, ErrorKind> {
        let chunks: Vec<_> = bytes
            .chunks(chunk)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let body: Body = Body {
            stream: stream::iter(chunks).boxed(),
            length: Some(bytes.len() as u64),
        };
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())]);
        let mut body = decoded(body, &headers, "`https://a`").map_err(|error| error.kind())?;
        let mut whole = Vec::new();
        while let Some(chunk) = body.stream.next().await {
            let chunk = chunk.map_err(|error| error.kind())?;
            assert!(chunk.len() <= 1100 * SLICE, "{} bytes at once", chunk.len());
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    }

    #[tokio::test]
    async fn a_bomb_in_one_chunk_is_decoded_in_pieces() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert_eq!(
            decode("gzip", &bomb, usize::MAX).await.unwrap().len(),
            64 << 20
        );
        let nothing = gzip(b"").repeat(100_000);
        assert_eq!(
            decode("gzip", &nothing, 64 << 10).await,
            Err(ErrorKind::Protocol),
            "endless empty members"
        );
    }

    #[tokio::test]
    async fn gzip_and_deflate_are_decoded() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let gzip = gzip(&content);
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(&content).unwrap();
        let deflate = deflate.finish().unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&content).unwrap();
        let raw = raw.finish().unwrap();
        let zstd = compress_to_vec(&content[..], CompressionLevel::Fastest);
        for chunk in [1, 1000, 1 << 20] {
            assert_eq!(decode("zstd", &zstd, chunk).await.unwrap(), content);
            assert_eq!(decode("gzip", &gzip, chunk).await.unwrap(), content);
            assert_eq!(
                decode("identity, X-Gzip", &gzip, chunk).await.unwrap(),
                content
            );
            assert_eq!(decode("deflate", &deflate, chunk).await.unwrap(), content);
            assert_eq!(decode("deflate", &raw, chunk).await.unwrap(), content);
        }
        assert_eq!(
            decode("aws-chunked, none", b"plain", 2).await.unwrap(),
            b"plain"
        );
        assert_eq!(decode("br", b"?", 1).await, Err(ErrorKind::Unsupported));
        assert_eq!(
            decode("gzip", b"\0asm, and no gzip", 3).await,
            Err(ErrorKind::Protocol)
        );
        for (coding, coded) in [
            ("gzip", &gzip),
            ("deflate", &deflate),
            ("deflate", &raw),
            ("zstd", &zstd),
        ] {
            let half = &coded[..coded.len() / 2];
            assert_eq!(
                decode(coding, half, 1000).await,
                Err(ErrorKind::Unavailable),
                "{coding}, cut off"
            );
        }
    }

    /// Each coding of a list was applied once.
    #[tokio::test]
    async fn several_codings_are_undone_in_reverse_order() {
        let content = vec![7; 300_000];
        let twice = gzip(&gzip(&content));
        assert_eq!(decode("gzip, gzip", &twice, 999).await.unwrap(), content);
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(&gzip(&content)).unwrap();
        let mixed = deflate.finish().unwrap();
        assert_eq!(decode("gzip,deflate", &mixed, 999).await.unwrap(), content);
        assert_eq!(
            decode("deflate, gzip", &mixed, 999).await,
            Err(ErrorKind::Protocol)
        );
        let bomb = gzip(&gzip(&vec![0; 256 << 20]));
        assert_eq!(
            decode("gzip, gzip", &bomb, usize::MAX).await.unwrap().len(),
            256 << 20,
            "each piece is small, as the helper checks"
        );
        let many = ["gzip"; 5].join(",");
        assert_eq!(decode(&many, b"", 1).await, Err(ErrorKind::Unsupported));
    }

    #[tokio::test]
    async fn several_headers_are_one_list() {
        let twice = gzip(&gzip(b"text"));
        let body: Body = Bytes::from(twice).into();
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_ENCODING, "gzip".parse().unwrap());
        headers.append(CONTENT_ENCODING, "identity".parse().unwrap());
        headers.append(CONTENT_ENCODING, "x-gzip".parse().unwrap());
        let body = decoded(body, &headers, "`https://a`").unwrap();
        assert_eq!(&body.bytes(10, "it").await.unwrap()[..], b"text");
    }

    /// The content in each coding, with the name of the coding.
    fn in_each_coding(content: &[u8]) -> [(&'static str, Vec<u8>); 4] {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(content).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(content).unwrap();
        [
            ("gzip", gzip(content)),
            ("deflate", zlib.finish().unwrap()),
            ("deflate", raw.finish().unwrap()),
            ("zstd", compress_to_vec(content, CompressionLevel::Fastest)),
        ]
    }

    #[tokio::test]
    async fn zeros_behind_the_content_are_padding_and_other_bytes_are_damage() {
        let content: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        for (coding, coded) in in_each_coding(&content) {
            for chunk in [1, 7, 1 << 20] {
                for zeros in [1, 3, 512, 10_000] {
                    let padded = [&coded[..], &vec![0; zeros]].concat();
                    let decoded = decode(coding, &padded, chunk).await;
                    assert_eq!(decoded.unwrap(), content, "{coding}, {zeros} zeros");
                }
                for garbage in [
                    &b"x"[..],
                    b"\0x",
                    b"0123456789",
                    b"\x1f",
                    b"\0\x1f",
                    b"\x1f0123",
                ] {
                    let followed = [&coded[..], garbage].concat();
                    let decoded = decode(coding, &followed, chunk).await;
                    assert_eq!(decoded, Err(ErrorKind::Protocol), "{coding}, {garbage:?}");
                }
            }
            let double = format!("{coding}, gzip");
            let padded = [gzip(&[&coded[..], &[0; 9]].concat()), vec![0; 9]].concat();
            assert_eq!(decode(&double, &padded, 100).await.unwrap(), content);
            let only_zeros = decode(coding, &[0; 100], 9).await;
            // A raw deflate body may begin with zeros.
            assert!(only_zeros.is_err() || coding == "deflate", "{coding}");
        }
        let one = gzip(b"one ");
        let two = gzip(b"two");
        let padded = [&one[..], &[0; 5], &two, &[0; 5]].concat();
        assert_eq!(decode("gzip", &padded, 3).await.unwrap(), b"one two");
        let frame = |text: &[u8]| compress_to_vec(text, CompressionLevel::Fastest);
        let padded = [frame(b"one "), vec![0; 5], frame(b"two"), vec![0]].concat();
        assert_eq!(decode("zstd", &padded, 3).await.unwrap(), b"one two");
        // Too much padding is refused like other content that decodes to nothing.
        let padded = [&one[..], &vec![0; 2 << 20]].concat();
        assert_eq!(
            decode("gzip", &padded, 1 << 20).await,
            Err(ErrorKind::Protocol)
        );
    }

    /// The cut may be in a header, in the content, or in the checksum.
    #[tokio::test]
    async fn a_body_that_is_cut_off_anywhere_is_retryable() {
        for (coding, coded) in in_each_coding(b"some text, some text") {
            for length in 1..coded.len() {
                assert_eq!(
                    decode(coding, &coded[..length], 9).await,
                    Err(ErrorKind::Unavailable),
                    "{coding}, {length} of {} bytes",
                    coded.len()
                );
            }
        }
        let two = [gzip(b"one"), gzip(b"two")].concat();
        let cut = decode("gzip", &two[..two.len() - 20], 9).await;
        assert_eq!(cut, Err(ErrorKind::Unavailable));
        let mut wrong = gzip(b"text");
        let last = wrong.len() - 5;
        wrong[last] ^= 1;
        for rest in [&[][..], &[0]] {
            let damaged = decode("gzip", &[&wrong[..], rest].concat(), 9).await;
            assert_eq!(damaged, Err(ErrorKind::Protocol), "the checksum");
        }
    }

    #[tokio::test]
    async fn an_empty_body_has_no_content() {
        for coding in ["gzip", "deflate", "gzip, gzip"] {
            assert_eq!(decode(coding, b"", 1).await.unwrap(), b"", "{coding}");
        }
    }
}
