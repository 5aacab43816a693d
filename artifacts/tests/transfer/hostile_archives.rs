//! Archives that lead out of the directory, that are damaged, or that expand too much.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use wasm_workflow_artifacts::ErrorKind;
use wasm_workflow_artifacts::archive::Unpack;
use wasm_workflow_artifacts::quota::{Bounds, Quota};
use wasm_workflow_artifacts::transfer::{Download, download};

use crate::{FILE, Fixture, HARD_LINK, LIMIT, LINK, tar_gz};

#[tokio::test]
async fn archives_that_lead_out_are_refused_and_leave_nothing() {
    for (entries, expected) in [
        (vec![("../x", FILE, "x")], "leads out of the archive"),
        (vec![("a/../../x", FILE, "x")], "leads out of the archive"),
        (
            vec![("l", LINK, "/etc/passwd")],
            "a link that leads out of the archive",
        ),
        (
            vec![("d/l", LINK, "../../x")],
            "a link that leads out of the archive",
        ),
        (
            vec![("d", LINK, "."), ("d/x", FILE, "x")],
            "a link that leads out of the archive",
        ),
        (
            vec![("a", FILE, "1"), ("h", HARD_LINK, "../../etc/passwd")],
            "leads out of the archive",
        ),
        (
            vec![("a", FILE, "1"), ("h", HARD_LINK, "none")],
            "cannot be",
        ),
        (
            vec![("a", FILE, "1"), ("l", LINK, "a"), ("h", HARD_LINK, "l")],
            "a hard link to something other than a file",
        ),
        (
            vec![("l", LINK, "elsewhere")],
            "the archive contains only a link",
        ),
        // The target of each link is inside of the archive, lexically.
        (
            vec![
                ("d/1/2/3/r", LINK, "../../../../d"),
                ("d/f", FILE, "x"),
                ("e", LINK, "d/1/2/3/r/../../../../etc/passwd"),
            ],
            "through other links",
        ),
    ] {
        let f = Fixture::new().await;
        let error = f
            .fetch(&tar_gz(&entries), Unpack::Detect)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(expected) || error.kind() == ErrorKind::Local,
            "{entries:?}: {error}"
        );
        assert!(!error.retryable(), "{error}");
        assert!(f.paths().is_empty(), "{entries:?}: {:?}", f.paths());
    }
    // Entries that are left out count too.
    let none: Vec<(String, EntryType, &str)> = (0..200)
        .map(|number| (format!("f{number}"), EntryType::Fifo, ""))
        .collect();
    let none: Vec<(&str, EntryType, &str)> = none
        .iter()
        .map(|(name, kind, text)| (name.as_str(), *kind, *text))
        .collect();
    let error = Fixture::new()
        .await
        .fetch(&tar_gz(&none), Unpack::Tar)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("more than 100 entries"),
        "{error}"
    );
    // Devices and pipes are left out, as by Argo.
    let f = Fixture::new().await;
    f.fetch(
        &tar_gz(&[
            ("null", EntryType::Char, ""),
            ("fifo", EntryType::Fifo, ""),
            ("a", FILE, "x"),
        ]),
        Unpack::Tar,
    )
    .await
    .unwrap();
    assert_eq!(fs::read(f.at("in")).unwrap(), b"x");
}

#[tokio::test]
async fn bombs_and_damage_are_errors() {
    let many: Vec<(String, EntryType, &str)> = (0..200)
        .map(|number| (number.to_string(), FILE, ""))
        .collect();
    let many: Vec<(&str, EntryType, &str)> = many
        .iter()
        .map(|(name, kind, text)| (name.as_str(), *kind, *text))
        .collect();
    let large = "x".repeat(3 << 20);
    let good = tar_gz(&[("a", FILE, &"text ".repeat(1000)), ("b", FILE, "x")]);
    let mut corrupt = good.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let mut name = Header::new_gnu();
    name.set_entry_type(EntryType::GNULongName);
    name.set_size(LIMIT);
    name.set_cksum();
    let mut long = GzEncoder::new(Vec::new(), Compression::fast());
    long.write_all(&[name.as_bytes().as_slice(), &vec![b'n'; 2 << 20], &[0; 1024]].concat())
        .unwrap();
    for (archive, unpack, expected) in [
        (tar_gz(&many), Unpack::Tar, "more than 100 entries"),
        (
            tar_gz(&[("a", FILE, &large)]),
            Unpack::Tar,
            "the archive expands to more than 2097152 bytes",
        ),
        (
            long.finish().unwrap(),
            Unpack::Tar,
            "the header of an entry in the archive is larger",
        ),
        (
            good[..good.len() - 20].to_vec(),
            Unpack::Tar,
            "cannot be unpacked",
        ),
        (corrupt, Unpack::Tar, "cannot be unpacked"),
        (
            b"not an archive at all, and long enough to be looked at".repeat(20),
            Unpack::Tar,
            "cannot be unpacked",
        ),
        (
            b"PK\x03\x04 but no more".to_vec(),
            Unpack::Zip,
            "the zip archive cannot be unpacked",
        ),
        (
            large.clone().into_bytes(),
            Unpack::None,
            "larger than the 2097152 bytes",
        ),
    ] {
        let f = Fixture::new().await;
        let error = f.fetch(&archive, unpack).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(f.paths().is_empty(), "{expected}: {:?}", f.paths());
    }
}

/// The zip crate reads the directory of an archive into memory, so its entries are counted before.
#[tokio::test]
async fn a_zip_of_many_entries_is_not_opened() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for number in 0..200 {
        writer
            .start_file(number.to_string(), zip::write::SimpleFileOptions::default())
            .unwrap();
    }
    let zip = writer.finish().unwrap().into_inner();
    let error = Fixture::new()
        .await
        .fetch(&zip, Unpack::Zip)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("more than 100 entries"),
        "{error}"
    );
}

/// Directories that exist only in the path of an entry count as entries.
#[tokio::test]
async fn each_directory_of_a_path_is_an_entry() {
    for (depth, fits) in [(90, true), (150, false)] {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "d/".repeat(depth) + "file", &b"x"[..])
            .unwrap();
        let fetched = Fixture::new()
            .await
            .fetch(&builder.into_inner().unwrap(), Unpack::Tar)
            .await;
        let too_many = fetched
            .as_ref()
            .is_err_and(|error| error.to_string().contains("more than 100 entries"));
        assert_eq!(fetched.is_ok(), fits, "{fetched:?}");
        assert_eq!(too_many, !fits, "{fetched:?}");
    }
}

/// A directory counts once, whether an entry or a path creates it.
#[tokio::test]
async fn directories_are_counted_once() {
    let header = |kind: EntryType| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        header
    };
    let mut builder = Builder::new(Vec::new());
    for number in 0..98 {
        builder
            .append_data(
                &mut header(EntryType::Directory),
                format!("d/{number}"),
                &b""[..],
            )
            .unwrap();
    }
    Fixture::new()
        .await
        .fetch(&builder.into_inner().unwrap(), Unpack::Tar)
        .await
        .unwrap();
}

/// 300 MB of zeros in 300 kB. The limits on the disk allow it; the limit on the expansion ratio
/// does not.
#[tokio::test]
async fn archives_that_expand_too_much_are_refused() {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    let mut header = Header::new_gnu();
    header.set_size(300 << 20);
    header.set_mode(0o644);
    builder
        .append_data(
            &mut header,
            "zeros",
            std::io::Read::take(std::io::repeat(0), 300 << 20),
        )
        .unwrap();
    let packed = builder.into_inner().unwrap().finish().unwrap();
    let f = Fixture::new().await;
    fs::write(f.stored.path().join("bomb"), &packed).unwrap();
    let what = Download {
        key: "bomb",
        path: "in",
        seen_at: "/work/in",
        unpack: Unpack::Detect,
        mode: None,
    };
    let error = download(
        &f.store,
        &what,
        &f.root,
        &Quota::new(Bounds {
            bytes: 1 << 30,
            entries: 10,
        }),
    )
    .await
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expands to more than 250 times its own size"),
        "{error}"
    );
}
