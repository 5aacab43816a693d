//! Content codings (RFC 9110, 8.4). None is ever asked for, and some servers send one all the same.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use futures::{StreamExt, stream};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use crate::source::Body;
use crate::{Error, ErrorKind};

/// Undoes a coding as the bytes arrive. A chunk of some kilobytes becomes a thousand times as much at most: whoever counts counts after it.
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

/// The body without the coding that the headers name.
pub(super) fn decoded(body: Body, headers: &HeaderMap, origin: &str) -> Result<Body, Error> {
    let named = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let named = named.flat_map(|value| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
    let codings: Vec<String> = named.filter(|coding| !coding.is_empty() && coding != "identity").collect();
    let decoder = match codings.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => return Ok(body),
        ["gzip" | "x-gzip"] => Decoder::Gzip(MultiGzDecoder::new(Vec::new())),
        ["deflate"] => Decoder::Deflate(ZlibDecoder::new(Vec::new())),
        _ => {
            let message = format!("{origin} sends the content coding `{}`, which nobody asked for", codings.join(", "));
            return Err(Error::new(ErrorKind::Unsupported, message)
                .hint("have the server send it as it is; gzip and deflate would be undone"));
        }
    };
    let damaged = format!("{origin} sends content whose coding `{}` is damaged", codings.join(", "));
    let state = Some((body.stream, decoder));
    let stream = stream::unfold(state, move |state| {
        let damaged = damaged.clone();
        async move {
            let (mut stream, mut decoder) = state?;
            let failed = |error: io::Error| Error::new(ErrorKind::Protocol, damaged).caused_by(error);
            Some(match stream.next().await {
                Some(Ok(chunk)) => match decoder.write(&chunk) {
                    Ok(bytes) => (Ok(Bytes::from(bytes)), Some((stream, decoder))),
                    Err(error) => (Err(failed(error)), None),
                },
                Some(Err(error)) => (Err(error), None),
                None => (decoder.finish().map(Bytes::from).map_err(failed), None),
            })
        }
    });
    // What was announced is the length of what is coded.
    Ok(Body { stream: stream.boxed(), length: None })
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    async fn decode(coding: &str, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, ErrorKind> {
        let chunks: Vec<_> = bytes.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = Body { stream: stream::iter(chunks).boxed(), length: Some(bytes.len() as u64) };
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())]);
        let mut body = decoded(body, &headers, "`https://a`").map_err(|error| error.kind())?;
        let mut whole = Vec::new();
        while let Some(chunk) = body.stream.next().await {
            whole.extend_from_slice(&chunk.map_err(|error| error.kind())?);
        }
        Ok(whole)
    }

    #[tokio::test]
    async fn what_is_coded_comes_out_as_it_was() {
        let content: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&content).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
        deflate.write_all(&content).unwrap();
        let deflate = deflate.finish().unwrap();
        for chunk in [1, 1000, 1 << 20] {
            assert_eq!(decode("gzip", &gzip, chunk).await.unwrap(), content);
            assert_eq!(decode("identity, X-Gzip", &gzip, chunk).await.unwrap(), content);
            assert_eq!(decode("deflate", &deflate, chunk).await.unwrap(), content);
        }
        assert_eq!(decode("identity", b"plain", 2).await.unwrap(), b"plain");
        assert_eq!(decode("br", b"?", 1).await, Err(ErrorKind::Unsupported));
        assert_eq!(decode("gzip, gzip", &gzip, 1).await, Err(ErrorKind::Unsupported));
        assert_eq!(decode("gzip", b"\0asm, and no gzip", 3).await, Err(ErrorKind::Protocol));
        assert_eq!(decode("gzip", &gzip[..gzip.len() / 2], 1000).await, Err(ErrorKind::Protocol), "cut off");
    }
}
