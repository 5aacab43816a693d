//! Tests of sparse files in archives that no program writes.

use std::fmt::Write;
use std::io::Read;

use tar::{EntryType, Header};

use crate::{Bounds, Error, ErrorKind, TarReader};

const BOUNDS: Bounds = Bounds {
    entries: 10,
    archive_bytes: 64 << 20,
    content_bytes: 1 << 20,
};

/// Reads the only file of an archive. Holes are read as zeros.
fn content(archive: &[u8]) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    TarReader::new(archive, BOUNDS).for_each(|entry| {
        entry.read_to_end(&mut content)?;
        Ok::<(), Error>(())
    })?;
    Ok(content)
}

/// A sparse file of old GNU tar, with `stored` bytes of content.
fn gnu(real_size: u64, map: &[(u64, u64)], stored: usize) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(stored as u64);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(real_size);
    let (first, rest) = map.split_at(map.len().min(4));
    for (entry, (offset, length)) in gnu.sparse.iter_mut().zip(first) {
        entry.offset = octal(*offset);
        entry.numbytes = octal(*length);
    }
    gnu.set_is_extended(!rest.is_empty());
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend(extensions(rest));
    archive.extend(vec![b'x'; stored.next_multiple_of(512)]);
    archive
}

fn octal(number: u64) -> [u8; 12] {
    match number < 1 << 33 {
        true => format!("{number:011o}\0").into_bytes(),
        false => [&[0x80, 0, 0, 0][..], &number.to_be_bytes()].concat(),
    }
    .try_into()
    .unwrap()
}

/// Extension blocks of old GNU tar and star.
fn extensions(map: &[(u64, u64)]) -> Vec<u8> {
    let mut blocks = Vec::new();
    for (number, part) in map.chunks(21).enumerate() {
        let mut block = vec![0; 512];
        for (position, (offset, length)) in part.iter().enumerate() {
            block[24 * position..][..12].copy_from_slice(&octal(*offset));
            block[24 * position + 12..][..12].copy_from_slice(&octal(*length));
        }
        block[504] = u8::from((number + 1) * 21 < map.len());
        blocks.extend(block);
    }
    blocks
}

/// A sparse file with PAX records, and its content.
fn pax(records: &[(&str, &str)], stored: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions(records.iter().map(|(key, value)| (*key, value.as_bytes())))
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_size(stored.len() as u64);
    builder
        .append_data(&mut header, "GNUSparseFile.0/f", stored)
        .unwrap();
    builder.into_inner().unwrap()
}

/// A map of format 1.0 with these lines, and the content.
fn version_1(size: &str, map: &str, stored: &[u8]) -> Vec<u8> {
    let mut bytes = map.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(stored);
    pax(
        &[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", size),
        ],
        &bytes,
    )
}

/// A sparse file of star. The map is in the header, or in extension blocks.
fn star(size: u64, map: &[(u64, u64)], in_header: usize, stored: usize) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::GNUSparse);
    let (first, rest) = map.split_at(in_header);
    let extensions = extensions(rest);
    header.set_size((extensions.len() + stored) as u64);
    let block = header.as_mut_bytes();
    for (position, (offset, length)) in first.iter().enumerate() {
        block[356 + 24 * position..][..12].copy_from_slice(&octal(*offset));
        block[368 + 24 * position..][..12].copy_from_slice(&octal(*length));
    }
    block[355] = u8::from(!extensions.is_empty());
    block[452..464].copy_from_slice(&octal(size));
    block[508..].copy_from_slice(b"tar\0");
    header.set_cksum();
    let content = vec![b'x'; stored.next_multiple_of(512)];
    [header.as_bytes(), &extensions[..], &content].concat()
}

/// A file of `size` bytes with `x` in the segments.
fn expanded(size: usize, map: &[(u64, u64)]) -> Vec<u8> {
    let mut file = vec![0; size];
    for (offset, length) in map {
        let [offset, length] = [offset, length].map(|number| usize::try_from(*number).unwrap());
        file[offset..][..length].fill(b'x');
    }
    file
}

#[test]
fn maps_of_any_length_are_read() {
    for count in [0, 1, 3, 4, 5, 25, 26, 100] {
        let map: Vec<(u64, u64)> = (0..count).map(|number| (10 * number + 1, 3)).collect();
        let stored = 3 * map.len();
        let size = 10 * map.len() + 7;
        let expected = expanded(size, &map);
        let size = size as u64;
        assert_eq!(content(&gnu(size, &map, stored)).unwrap(), expected);
        for in_header in [0, map.len().min(4)] {
            // star always writes a segment.
            if count > 0 {
                let archive = star(size, &map, in_header, stored);
                assert_eq!(content(&archive).unwrap(), expected);
            }
        }
        let mut lines = format!("{count}\n");
        for (offset, length) in &map {
            writeln!(lines, "{offset}\n{length}").unwrap();
        }
        let stored = vec![b'x'; stored];
        assert_eq!(
            content(&version_1(&size.to_string(), &lines, &stored)).unwrap(),
            expected
        );
    }
}

#[test]
fn malformed_maps_are_errors() {
    const HUGE: u64 = i64::MAX as u64;
    for (size, map, stored) in [
        (10, &[(0, 4), (3, 4)][..], 8),
        (10, &[(5, 2), (0, 2)], 4),
        (10, &[(8, 4)], 4),
        (10, &[(11, 0)], 0),
        (HUGE, &[(HUGE, HUGE)], 1),
        (HUGE, &[(2, HUGE)], 1),
        (10, &[(0, 4)], 3),
        (10, &[(0, 4)], 5),
        (10, &[], 512),
    ] {
        let error = content(&gnu(size, map, stored)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{map:?}: {error}");
    }
    for (size, map, stored) in [
        ("10", "1\n0\n4\n", &b"xxx"[..]),
        ("10", "1\n0\n4\n", b"xxxxx"),
        ("10", "2\n0\n4\n3\n4\n", b"xxxxxxxx"),
        ("10", "1\n0\n", b""),
        ("10", "99999999999999999999\n", b""),
        ("10", "-1\n", b""),
        ("10", "", b""),
        ("10", " 1\n0\n4\n", b"xxxx"),
        ("-10", "1\n0\n4\n", b"xxxx"),
        ("", "1\n0\n4\n", b"xxxx"),
    ] {
        let error = content(&version_1(size, map, stored)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{map:?}: {error}");
    }
    for records in [
        &[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,4,")][..],
        &[("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,4,6")],
        &[("GNU.sparse.size", "10"), ("GNU.sparse.map", "4,4,0,4")],
        &[("GNU.sparse.map", "0,4")],
        &[("GNU.sparse.size", "10")],
        &[("GNU.sparse.name", "f")],
        &[
            ("GNU.sparse.size", "10"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.map", "0,4"),
        ],
        &[
            ("GNU.sparse.size", "10"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.offset", "4"),
        ],
    ] {
        let error = content(&pax(records, b"xxxx")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreadable, "{records:?}: {error}");
    }
}

#[test]
fn the_number_of_segments_is_limited() {
    let map: Vec<(u64, u64)> = (0..300_000).map(|number| (number, 0)).collect();
    let lines = "0\n0\n".repeat(300_000);
    for archive in [
        gnu(1 << 20, &map, 0),
        star(1 << 20, &map, 0, 0),
        version_1("10", &format!("300000\n{lines}"), b""),
    ] {
        let error = content(&archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HeaderTooLarge, "{error}");
    }
}

#[test]
fn holes_count_as_content_and_are_skipped_at_once() {
    for size in [1 << 33, i64::MAX as u64] {
        let archive = gnu(size, &[(size - 1, 1)], 1);
        assert_eq!(
            content(&archive).unwrap_err().kind(),
            ErrorKind::TooManyBytes
        );
        for skips in [true, false] {
            let bounds = Bounds {
                content_bytes: size,
                ..BOUNDS
            };
            let mut skipped = 0;
            TarReader::new(&archive[..], bounds)
                .for_each(|entry| {
                    if skips {
                        skipped = entry.skip_hole()?;
                        let mut rest = Vec::new();
                        entry.read_to_end(&mut rest)?;
                        assert_eq!(rest, b"x");
                    }
                    Ok::<(), Error>(())
                })
                .unwrap();
            assert_eq!(skipped, if skips { size - 1 } else { 0 });
        }
    }
}
