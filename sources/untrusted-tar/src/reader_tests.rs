//! Tests of the reader.

use std::io::{self, Read};

use tar::{Builder, EntryType, Header};

use crate::header::BLOCK;
use crate::{Bounds, Error, ErrorKind, Kind, TarReader};

const BOUNDS: Bounds = Bounds {
    entries: 10,
    archive_bytes: 4 << 20,
    content_bytes: 1 << 20,
};
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// An entry as a test expects it: its kind, path, link and content.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    kind: Kind,
    path: String,
    link: String,
    content: Vec<u8>,
}

fn found(kind: Kind, path: &str, content: &[u8]) -> Found {
    Found {
        kind,
        path: path.to_owned(),
        link: String::new(),
        content: content.to_vec(),
    }
}

fn read(archive: &[u8]) -> Result<Vec<Found>, Error> {
    let mut entries = Vec::new();
    TarReader::new(archive, BOUNDS).for_each(|entry| {
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        entries.push(Found {
            kind: entry.kind(),
            path: entry.path()?,
            link: String::from_utf8_lossy(entry.link().unwrap_or_default()).into_owned(),
            content,
        });
        Ok::<(), Error>(())
    })?;
    Ok(entries)
}

fn failure(archive: &[u8]) -> ErrorKind {
    read(archive).unwrap_err().kind()
}

/// A header of V7 with this type, name and size.
fn v7(flag: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_old();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = flag;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Content with its padding.
fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(BLOCK), 0);
    content
}

fn pax(flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    builder.append_pax_extensions(records).unwrap();
    let mut header = Header::new_ustar();
    let archive = builder.into_inner().unwrap();
    header.as_mut_bytes().copy_from_slice(&archive[..BLOCK]);
    header.set_entry_type(EntryType::new(flag));
    header.set_cksum();
    let content = &archive[BLOCK..archive.len() - END.len()];
    [header.as_bytes(), content].concat()
}

fn entry(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header
}

#[test]
fn a_header_takes_a_bounded_amount_of_memory() {
    for kind in [
        EntryType::GNULongName,
        EntryType::GNULongLink,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
    ] {
        let header = entry(kind, 2 << 20);
        let archive = [header.as_bytes(), &vec![b'n'; 2 << 20][..], &END].concat();
        assert_eq!(failure(&archive), ErrorKind::HeaderTooLarge, "{kind:?}");
    }
    let many = [&v7(b'L', "", 1)[..], &padded(b"n")].concat().repeat(3000);
    assert_eq!(failure(&many), ErrorKind::HeaderTooLarge);
}

#[test]
fn every_entry_counts() {
    for kind in [
        EntryType::Fifo,
        EntryType::Directory,
        EntryType::Regular,
        EntryType::XGlobalHeader,
    ] {
        let archive = entry(kind, 0).as_bytes().repeat(11);
        assert_eq!(failure(&archive), ErrorKind::TooManyEntries, "{kind:?}");
    }
}

#[test]
fn content_counts_if_it_is_skipped() {
    let mut builder = Builder::new(Vec::new());
    let size = BOUNDS.content_bytes + 1;
    builder
        .append_data(
            &mut entry(EntryType::Regular, size),
            "a",
            io::repeat(0).take(size),
        )
        .unwrap();
    let archive = builder.into_inner().unwrap();
    let error = TarReader::new(&archive[..], BOUNDS)
        .for_each(|_| Ok::<(), Error>(()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyBytes);
}

#[test]
fn damage_is_an_error() {
    assert_eq!(failure(&[b'x'; 1024]), ErrorKind::Unreadable);
    let file = [v7(b'0', "a", 600), padded(&[1; 600])].concat();
    let whole = [&file[..], &END].concat();
    assert_eq!(read(&whole).unwrap(), [found(Kind::File, "a", &[1; 600])]);
    for length in (1..BLOCK).chain(BLOCK + 1..BLOCK + 600).step_by(37) {
        assert_eq!(failure(&whole[..length]), ErrorKind::Unreadable, "{length}");
    }
    let extended = pax(b'x', &[("path", "b")]);
    assert_eq!(failure(&extended), ErrorKind::Unreadable);
    assert_eq!(
        failure(&[&extended[..], &END].concat()),
        ErrorKind::Unreadable
    );
    let mut negative = Header::new_old();
    negative.as_mut_bytes()[124..136].copy_from_slice(b"-0000000001\0");
    negative.set_cksum();
    assert_eq!(failure(negative.as_bytes()), ErrorKind::Unreadable);
}

#[test]
fn the_end_is_a_block_of_zeros_or_the_end_of_the_source() {
    let file = [v7(b'0', "a", 3), padded(b"abc")].concat();
    let expected = [found(Kind::File, "a", b"abc")];
    for end in [
        &b""[..],
        &[0; BLOCK],
        &END,
        &[&END[..], b"anything"].concat(),
        &[&[0; BLOCK][..], &[b'x'; BLOCK]].concat(),
        &[&[0; BLOCK][..], b"x"].concat(),
    ] {
        assert_eq!(read(&[&file[..], end].concat()).unwrap(), expected);
    }
    assert_eq!(
        read(&file[..BLOCK + 3]).unwrap(),
        expected,
        "the padding at the end may be missing"
    );
    let again = [&file[..], &[0; BLOCK], &file].concat();
    assert_eq!(
        failure(&again),
        ErrorKind::Unreadable,
        "entries after one block of zeros would be lost"
    );
}

#[test]
fn a_directory_before_posix_is_a_name_with_a_slash() {
    for flag in [0, b'0', b'7'] {
        let archive = [v7(flag, "d/", 0), v7(flag, "d/f", 1), padded(b"x")].concat();
        assert_eq!(
            read(&archive).unwrap(),
            [
                found(Kind::Directory, "d", b""),
                found(Kind::File, "d/f", b"x")
            ],
            "{flag}"
        );
    }
}

#[test]
fn directories_and_links_have_no_content_whatever_their_size_is() {
    for (flag, kind) in [
        (b'1', Kind::HardLink),
        (b'2', Kind::Symlink),
        (b'3', Kind::Other),
        (b'5', Kind::Directory),
        (b'6', Kind::Other),
    ] {
        let archive = [v7(flag, "a", 4096), v7(b'0', "b", 1), padded(b"x")].concat();
        assert_eq!(
            read(&archive).unwrap(),
            [found(kind, "a", b""), found(Kind::File, "b", b"x")],
            "{flag}"
        );
    }
    // The list of files in a directory of an incremental backup is skipped.
    let archive = [
        v7(b'D', "d/", 3),
        padded(b"Ya\0"),
        v7(b'0', "d/a", 1),
        padded(b"x"),
    ];
    assert_eq!(
        read(&archive.concat()).unwrap(),
        [
            found(Kind::Directory, "d", b""),
            found(Kind::File, "d/a", b"x")
        ]
    );
}

#[test]
fn extensions_replace_names_and_sizes_of_the_next_entry_only() {
    let long = "n".repeat(300);
    let archive = [
        pax(b'g', &[("comment", "of git")]),
        pax(b'x', &[("path", &long), ("size", "2"), ("mtime", "-1.5")]),
        v7(b'0', "short", 7),
        padded(b"ab"),
        v7(b'L', "././@LongLink", 301),
        padded(format!("{long}\0").as_bytes()),
        v7(b'K', "././@LongLink", 7),
        padded(b"target\0"),
        v7(b'2', "short", 0),
        pax(b'X', &[("linkpath", "t"), ("path", "")]),
        v7(b'1', "link", 0),
        v7(b'0', "last", 0),
    ];
    let entries = read(&archive.concat()).unwrap();
    let all: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| (entry.path.as_str(), entry.link.as_str()))
        .collect();
    assert_eq!(
        all,
        [(&*long, ""), (&long, "target"), ("link", "t"), ("last", "")]
    );
    assert_eq!(entries[0].content, b"ab");
}

#[test]
fn unknown_types_and_keywords_are_refused_by_name() {
    for (archive, expected) in [
        (v7(b'M', "part", 0), "type `M`, a part of a file"),
        (v7(b'N', "names", 0), "type `N`"),
        (v7(b'E', "attributes", 0), "the entry `attributes`"),
        (v7(0xff, "x", 0), "type `\\xff`"),
        (
            pax(b'x', &[("SUN.holesdata", " 0 1")]),
            "keyword `SUN.holesdata`",
        ),
        (pax(b'g', &[("path", "all")]), "keyword `path`"),
        (
            [
                pax(
                    b'x',
                    &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")],
                ),
                v7(b'0', "f", 0),
            ]
            .concat(),
            "the format 2.0",
        ),
    ] {
        let error = read(&archive).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn errors_of_the_source_keep_their_type() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }
    }
    let error = TarReader::new(Broken, BOUNDS)
        .for_each(|_| Ok::<(), io::Error>(()))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
