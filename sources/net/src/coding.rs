//! Content codings (RFC 9110, 8.4). Requests never ask for a coding, but some servers use one
//! anyway.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::zstd::{self, ZstdDecoder};
use crate::{Body, Error, ErrorKind};

/// The coded bytes that are decoded at once. Deflate expands at most 1032 times, so one slice
/// yields at most about 4 MiB. The reader counts these bytes before the next slice is decoded.
const SLICE: usize = 4 << 10;
/// The slice of Zstandard: four bytes of it stand for at most 128 KiB.
const ZSTD_SLICE: usize = 128;
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

/// A decoder for bytes as they arrive.
enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// The first bytes of a deflate body, until there are enough to detect its format.
    DeflateStart(Vec<u8>),
    Zlib(ZlibDecoder<Vec<u8>>),
    Raw(DeflateDecoder<Vec<u8>>),
    Zstd(Box<ZstdDecoder>),
}

impl Decoder {
    fn for_coding(coding: &str) -> Option<Self> {
        match coding {
            "gzip" | "x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            "deflate" => Some(Self::DeflateStart(Vec::new())),
            "zstd" => Some(Self::Zstd(Box::new(ZstdDecoder::new()))),
            _ => None,
        }
    }

    /// The coded bytes that are decoded at once.
    fn slice(&self) -> usize {
        match self {
            Self::Zstd(_) => ZSTD_SLICE,
            _ => SLICE,
        }
    }

    /// The decoded bytes that the decoder may keep.
    fn kept(&self) -> u64 {
        match self {
            Self::Zstd(_) => zstd::MAX_WINDOW,
            _ => 0,
        }
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let decoded = match self {
            Self::Gzip(decoder) => decoder.write_all(chunk).map(|()| decoder.get_mut()),
            Self::Zlib(decoder) => decoder.write_all(chunk).map(|()| decoder.get_mut()),
            Self::Raw(decoder) => decoder.write_all(chunk).map(|()| decoder.get_mut()),
            Self::Zstd(decoder) => return decoder.write(chunk),
            Self::DeflateStart(start) => {
                start.extend_from_slice(chunk);
                let [first, second, ..] = start[..] else {
                    return Ok(Vec::new());
                };
                let start = std::mem::take(start);
                *self = match is_zlib(first, second) {
                    true => Self::Zlib(ZlibDecoder::new(Vec::new())),
                    false => Self::Raw(DeflateDecoder::new(Vec::new())),
                };
                return self.write(&start);
            }
        };
        decoded.map(std::mem::take)
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zlib(decoder) => decoder.finish(),
            Self::Raw(decoder) => decoder.finish(),
            Self::Zstd(decoder) => decoder.finish(),
            Self::DeflateStart(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Whether a deflate body begins with the header of zlib (RFC 1950, 2.2). A raw body never does: in
/// its first byte, the bits that mark zlib would be padding, which encoders set to zero.
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x0f == 8 && (u16::from(first) << 8 | u16::from(second)).is_multiple_of(31)
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
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

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

    #[tokio::test]
    async fn an_empty_body_has_no_content() {
        for coding in ["gzip", "deflate", "gzip, gzip"] {
            assert_eq!(decode(coding, b"", 1).await.unwrap(), b"", "{coding}");
        }
    }
}
