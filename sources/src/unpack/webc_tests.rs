//! Tests of WEBC containers, read as packages of the Wasmer registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::Unpacked;
use super::tests::{LIMITS, MODULE};
use super::wasmer::wasmer_package;
use super::webc::{MAGIC, V1_HEADER, tag};
use crate::{Digest, Error, ErrorKind};

fn open(bytes: impl Into<Bytes>) -> Result<Unpacked, Error> {
    wasmer_package(&bytes.into().into(), None, LIMITS)
}

fn cbor(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

fn manifest() -> Vec<u8> {
    let signature = format!(
        "sha256:{}",
        STANDARD.encode(hex::decode(Digest::of(MODULE).hex()).unwrap())
    );
    cbor(&serde_json::json!({
        "atoms": {"a": {"kind": "x", "signature": signature}},
        "commands": {"a": {"runner": "https://webc.org/runner/wasi", "annotations": {}}},
    }))
}

fn block(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn sectioned(hashed: bool) -> Vec<u8> {
    let hash = if hashed { vec![0; 32] } else { Vec::new() };
    let times = if hashed { vec![0; 24] } else { Vec::new() };
    let entry_length = 8 + hash.len() + 8 + 1;
    let file_at = 1 + 8 + times.len() + hash.len() + entry_length;
    let entry = [&(file_at as u64).to_le_bytes()[..], &hash, &block(b"a")].concat();
    let directory = [&times[..], &hash, &entry].concat();
    let file = [
        &[tag::FILE][..],
        &0u64.to_le_bytes(),
        &(MODULE.len() as u64).to_le_bytes(),
        &[0; 32],
        &times,
    ]
    .concat();
    let header = [&[tag::DIRECTORY][..], &block(&directory), &file].concat();
    let atoms = [block(&header), block(MODULE)].concat();
    let version: &[u8] = if hashed { b"003" } else { b"002" };
    let section = |tag: u8, bytes: &[u8]| [&[tag][..], &hash, &block(bytes)].concat();
    let index = [&[tag::INDEX][..], &block(b"anything")].concat();
    [
        MAGIC,
        version,
        &index,
        &section(tag::MANIFEST, &manifest()),
        &section(tag::ATOMS, &atoms),
    ]
    .concat()
}

fn first_version() -> Vec<u8> {
    let leb = |bytes: &[u8]| {
        let [low, high, ..] = bytes.len().to_le_bytes();
        let first = low | 0x80;
        let second = high << 1 | low >> 7;
        [&[first, second][..], bytes].concat()
    };
    let entry = [
        &[1, 0, 0, 0, 0, 0, 0, 1][..],
        &0u64.to_le_bytes(),
        &(MODULE.len() as u64).to_le_bytes(),
        b"a",
    ]
    .concat();
    let volume = [leb(&block(&entry)), MODULE.to_vec()].concat();
    [
        MAGIC,
        b"001",
        &[0; V1_HEADER - 8],
        &leb(&manifest()),
        &leb(&volume),
    ]
    .concat()
}

#[test]
fn the_module_is_found_in_each_version() {
    for bytes in [first_version(), sectioned(false), sectioned(true)] {
        let unpacked = open(bytes).unwrap();
        assert_eq!(
            (&unpacked.module[..], unpacked.defaults.program.as_deref()),
            (MODULE, Some("a"))
        );
    }
}

/// Each container is cut off at many positions, and many of its bytes are changed.
#[test]
fn a_damaged_container_does_not_panic() {
    for whole in [first_version(), sectioned(false), sectioned(true)] {
        let interesting =
            (0..whole.len()).filter(|at| !(40..V1_HEADER - 40).contains(at) || whole[7] != b'1');
        for at in interesting {
            let _ = open(Bytes::copy_from_slice(&whole[..at]));
            for with in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 1] {
                let mut changed = whole.clone();
                changed[at] = with;
                let _ = open(changed);
            }
        }
    }
    let twice = [sectioned(false), sectioned(false)[8..].to_vec()].concat();
    assert!(open(twice).is_err(), "a section twice");
    assert_eq!(
        open(Bytes::from_static(b"\0webc009")).err().unwrap().kind(),
        ErrorKind::Unsupported
    );
}
