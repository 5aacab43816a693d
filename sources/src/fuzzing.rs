//! Functions for the fuzz targets in `sources/fuzz`.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "for fuzz targets only"
)]

use bytes::Bytes;

pub use crate::oci::fuzzing::manifest;
use crate::unpack::{self, Limits};

/// A small limit, so that the fuzzer finds decompression bombs early.
const LIMITS: Limits = Limits { module: 1 << 20 };

pub fn archive(bytes: &[u8]) {
    if let Ok(module) = unpack::file(Bytes::copy_from_slice(bytes).into(), LIMITS) {
        assert!(module.len() as u64 <= LIMITS.module * 4 || module.len() == bytes.len());
    }
}

pub fn image(layers: &[&[u8]], path: Option<&str>) {
    let mut layer = |number: usize| Ok(Bytes::copy_from_slice(layers[number]).into());
    let _ = unpack::image(layers.len(), &mut layer, path, LIMITS);
}

pub fn wasmer_package(bytes: &[u8], command: Option<&str>) {
    let _ = unpack::wasmer_package(&Bytes::copy_from_slice(bytes).into(), command, LIMITS);
}
