//! Content codings: each piece is small, and a decoder does not read on without end.
#![no_main]

use bytes::Bytes;
use futures::executor::block_on;
use futures::{StreamExt, stream};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use wasm_workflow_net::{Body, Error, decoded};

/// The largest piece, in bytes: the window of Zstandard at the end of a frame, and one slice.
const LARGEST_PIECE: usize = 16 << 20;

fuzz_target!(|input: &[u8]| {
    let [codings, chunk, coded @ ..] = input else {
        return;
    };
    let names = ["gzip", "deflate", "zstd", "gzip, zstd", "zstd, deflate"];
    let name = names[usize::from(*codings) % names.len()];
    let headers = HeaderMap::from_iter([(
        http::header::CONTENT_ENCODING,
        http::HeaderValue::from_static(name),
    )]);
    let chunks: Vec<Result<Bytes, Error>> = coded
        .chunks(usize::from(*chunk) + 1)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    let body = Body {
        stream: stream::iter(chunks).boxed(),
        length: None,
    };
    let Ok(mut body) = decoded(body, &headers, "`https://a`") else {
        panic!("these codings are supported");
    };
    block_on(async {
        let mut total = 0;
        while let Some(Ok(piece)) = body.stream.next().await {
            assert!(piece.len() <= LARGEST_PIECE);
            total += piece.len();
            // A caller limits the content.
            if total > 64 << 20 {
                break;
            }
        }
    });
});
