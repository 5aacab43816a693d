//! Archives that other programs unpack, though they are old, padded, or say something twice.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use wasm_workflow_artifacts::archive::Unpack;

use crate::{DIRECTORY, FILE, Fixture, HARD_LINK, LINK, tar_gz};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An entry of V7. A directory is a file whose name ends in a slash.
fn v7(name: &str, content: &str) -> Vec<u8> {
    let mut header = Header::new_old();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = 0;
    header.set_mode(0o755);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend_from_slice(content.as_bytes());
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

#[tokio::test]
async fn a_name_with_a_slash_is_a_directory() {
    let archive = [
        v7("d/", ""),
        v7("d/file.txt", "hello\n"),
        v7("d/", ""),
        v7("top.txt", "hello\n"),
        vec![0; 1024],
    ]
    .concat();
    let f = Fixture::new().await;
    f.fetch(&gzip(&archive), Unpack::Detect).await.unwrap();
    assert_eq!(f.paths(), ["in", "in/d", "in/d/file.txt", "in/top.txt"]);
    assert_eq!(fs::read(f.at("in/d/file.txt")).unwrap(), b"hello\n");
}

#[tokio::test]
async fn bytes_behind_an_archive_are_ignored_and_damage_is_not() {
    let tar = [v7("a", "one"), v7("b", "two"), vec![0; 10_240]].concat();
    let packed = gzip(&tar);
    let empty = gzip(b"");
    for archive in [
        [&packed[..], &[0; 512]].concat(),
        [&packed[..], b"garbage"].concat(),
        [&packed[..], &[0; 100], b"garbage"].concat(),
        [&empty[..], &packed, &empty].concat(),
        [gzip(&tar[..700]), gzip(&tar[700..])].concat(),
        [
            gzip(&tar[..700]),
            empty.clone(),
            vec![0; 3],
            gzip(&tar[700..]),
        ]
        .concat(),
        [&packed[..], &packed].concat(),
        gzip(&[&tar[..], b"garbage"].concat()),
        gzip(&tar[..2048]),
        gzip(&tar[..2048 + 512]),
    ] {
        let f = Fixture::new().await;
        f.fetch(&archive, Unpack::Detect).await.unwrap();
        assert_eq!(f.paths(), ["in", "in/a", "in/b"]);
    }
    let mut wrong_sum = packed.clone();
    let length = wrong_sum.len();
    wrong_sum[length - 6] ^= 1;
    for archive in [
        wrong_sum,
        packed[..packed.len() - 1].to_vec(),
        // The second file is missing.
        [&gzip(&tar[..1024])[..], b"garbage"].concat(),
    ] {
        let f = Fixture::new().await;
        f.fetch(&archive, Unpack::Tar).await.unwrap_err();
        assert!(f.paths().is_empty());
    }
}

#[tokio::test]
async fn a_zip_may_have_bytes_before_and_behind_it() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    writer.add_directory("d/", options).unwrap();
    writer.start_file("d/a", options).unwrap();
    writer.write_all(b"one").unwrap();
    writer.start_file("b", options).unwrap();
    let zip = writer.finish().unwrap().into_inner();
    for archive in [
        [b"#!/bin/sh\n", &zip[..]].concat(),
        [&zip[..], &[0; 512]].concat(),
    ] {
        let f = Fixture::new().await;
        f.fetch(&archive, Unpack::Zip).await.unwrap();
        assert_eq!(f.paths(), ["in", "in/b", "in/d", "in/d/a"]);
    }
}

#[tokio::test]
async fn the_last_entry_of_a_path_stays_as_by_tar() {
    for (entries, expected) in [
        // GNU tar writes such a link for a file that it is given twice.
        (
            vec![("a", FILE, "x"), ("a", HARD_LINK, "a"), ("b", FILE, "")],
            "x",
        ),
        (
            vec![("a", DIRECTORY, ""), ("a", FILE, "y"), ("b", FILE, "")],
            "y",
        ),
        (
            vec![("b", FILE, "z"), ("a", DIRECTORY, ""), ("a", LINK, "b")],
            "z",
        ),
        (
            vec![("b", FILE, "w"), ("a", LINK, "/b"), ("a", FILE, "w")],
            "w",
        ),
    ] {
        let f = Fixture::new().await;
        f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap();
        assert_eq!(fs::read_to_string(f.at("in/a")).unwrap(), expected);
    }
    for first in [FILE, LINK] {
        let f = Fixture::new().await;
        let entries = [
            ("a", first, "none"),
            ("a", DIRECTORY, ""),
            ("a/c", FILE, "x"),
        ];
        f.fetch(
            &tar_gz(&[&entries[..], &[("b", FILE, "")]].concat()),
            Unpack::Tar,
        )
        .await
        .unwrap();
        assert_eq!(f.paths(), ["in", "in/a", "in/a/c", "in/b"]);
    }
    let f = Fixture::new().await;
    let entries = [("a/c", FILE, "x"), ("a", FILE, "y")];
    let error = f.fetch(&tar_gz(&entries), Unpack::Tar).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`a` is a file or link in the archive, and a directory"),
        "{error}"
    );
}

/// The fixture says that the step sees the artifact at `/work/in`.
#[tokio::test]
async fn unknown_extensions_are_refused_by_name() {
    let entries = [("a", EntryType::new(b'M'), ""), ("b", FILE, "")];
    let error = Fixture::new()
        .await
        .fetch(&tar_gz(&entries), Unpack::Detect)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the entry `a` of the archive has the type `M`"),
        "{error}"
    );
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("--format=posix"))
    );
}
