//! Content codings (RFC 9110, 8.4). Requests never ask for a coding, but some servers use one
//! anyway.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::{Body, Error, ErrorKind};

/// The coded bytes that are decoded at once. Deflate expands at most 1032 times, so one slice
/// yields at most about 4 MiB. The reader counts these bytes before the next slice is decoded.
const SLICE: usize = 4 << 10;
/// The number of bytes by which a coded body may be larger than its decoded content. The reader
/// limits the decoded content.
const OVERHEAD: u64 = 1 << 20;

/// A decoder for bytes as they arrive.
enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    fn write(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let decoded = match self {
            Self::Gzip(decoder) => decoder.write_all(chunk).map(|()| decoder.get_mut()),
            Self::Deflate(decoder) => decoder.write_all(chunk).map(|()| decoder.get_mut()),
        };
        decoded.map(std::mem::take)
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.finish(),
            Self::Deflate(decoder) => decoder.finish(),
        }
    }
}

/// The body without the content coding that the headers name.
pub(crate) fn decoded(body: Body, headers: &HeaderMap, origin: &str) -> Result<Body, Error> {
    let named = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .map(|value| value.to_str().unwrap_or("?"));
    let named = named
        .flat_map(|value| value.split(','))
        .map(|coding| coding.trim().to_ascii_lowercase());
    // Some stores send these names, which are not content codings.
    let codings: Vec<String> = named
        .filter(|coding| {
            !matches!(
                coding.as_str(),
                "" | "identity" | "none" | "binary" | "aws-chunked"
            )
        })
        .collect();
    let names: Vec<&str> = codings.iter().map(String::as_str).collect();
    let decoder = match names.as_slice() {
        [] => return Ok(body),
        ["gzip" | "x-gzip"] => Decoder::Gzip(MultiGzDecoder::new(Vec::new())),
        ["deflate"] => Decoder::Deflate(ZlibDecoder::new(Vec::new())),
        _ => {
            let message = format!(
                "{origin} sends the content coding `{}`, which the request did not ask for",
                codings.join(", ")
            );
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(
                "configure the server to send the file without a content coding, or with gzip or \
                 deflate",
            ));
        }
    };
    let damaged = format!(
        "{origin} sends content whose coding `{}` is damaged",
        codings.join(", ")
    );
    let coded = Coded {
        stream: body.stream,
        decoder,
        pending: Bytes::new(),
        read: 0,
        decoded: 0,
        damaged,
    };
    let stream = stream::try_unfold(Some(coded), |coded| async move {
        let Some(mut coded) = coded else {
            return Ok(None);
        };
        Ok(match coded.next().await? {
            Some(bytes) => Some((bytes, Some(coded))),
            None => Some((coded.finish()?, None)),
        })
    });
    // The announced length is that of the coded body.
    Ok(Body {
        stream: stream.boxed(),
        length: None,
    })
}

/// A coded body, and its decoder.
struct Coded {
    stream: BoxStream<'static, Result<Bytes, Error>>,
    decoder: Decoder,
    /// Received bytes that are not decoded yet.
    pending: Bytes,
    read: u64,
    decoded: u64,
    damaged: String,
}

impl Coded {
    /// The next decoded bytes. `None` at the end of the coded body.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.pending.is_empty() {
                match self.stream.next().await.transpose()? {
                    Some(chunk) => self.pending = chunk,
                    None => return Ok(None),
                }
            }
            let slice = self.pending.split_to(self.pending.len().min(SLICE));
            let decoded = self
                .decoder
                .write(&slice)
                .map_err(|error| self.failed(error))?;
            self.read += slice.len() as u64;
            self.decoded += decoded.len() as u64;
            if self.read > self.decoded.saturating_add(OVERHEAD) {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "{}: the decoded content is smaller than the coded content",
                        self.damaged
                    ),
                ));
            }
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
    }

    fn finish(self) -> Result<Bytes, Error> {
        let Self {
            decoder, damaged, ..
        } = self;
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
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    async fn decode(coding: &str, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, ErrorKind> {
        let chunks: Vec<_> = bytes
            .chunks(chunk)
            .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
            .collect();
        let body = Body {
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
        for chunk in [1, 1000, 1 << 20] {
            assert_eq!(decode("gzip", &gzip, chunk).await.unwrap(), content);
            assert_eq!(
                decode("identity, X-Gzip", &gzip, chunk).await.unwrap(),
                content
            );
            assert_eq!(decode("deflate", &deflate, chunk).await.unwrap(), content);
        }
        assert_eq!(
            decode("aws-chunked, none", b"plain", 2).await.unwrap(),
            b"plain"
        );
        assert_eq!(decode("br", b"?", 1).await, Err(ErrorKind::Unsupported));
        assert_eq!(
            decode("gzip, gzip", &gzip, 1).await,
            Err(ErrorKind::Unsupported)
        );
        assert_eq!(
            decode("gzip", b"\0asm, and no gzip", 3).await,
            Err(ErrorKind::Protocol)
        );
        for (coding, coded) in [("gzip", &gzip), ("deflate", &deflate)] {
            let half = &coded[..coded.len() / 2];
            assert_eq!(
                decode(coding, half, 1000).await,
                Err(ErrorKind::Unavailable),
                "{coding}, cut off"
            );
        }
    }
}
