//! Reads archives, and compares them with what Go's `archive/tar` reads. Argo's executor uses this
//! package. `tests/go/make` makes the archives and the list.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasm_workflow_untrusted_tar::{Bounds, Error, GzipReader, Kind, TarReader};

const BOUNDS: Bounds = Bounds {
    entries: 100,
    archive_bytes: 1 << 20,
    content_bytes: 1 << 20,
};

/// Lists an archive as `list.go` does.
fn list(file: &Path) -> String {
    let mut text = String::new();
    let packed = std::fs::read(file).unwrap();
    let read = TarReader::new(GzipReader::new(&packed[..]), BOUNDS).for_each(|entry| {
        let flag = match entry.kind() {
            Kind::File => '0',
            Kind::HardLink => '1',
            Kind::Symlink => '2',
            Kind::Directory => '5',
            Kind::Other => '?',
        };
        let link = String::from_utf8_lossy(entry.link().unwrap_or_default()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let sum = hex::encode(&Sha256::digest(&content)[..8]);
        let path = entry.path()?;
        let size = content.len();
        writeln!(text, "{flag} {path} {link:?} {size} {sum}").unwrap();
        Ok::<(), Error>(())
    });
    if read.is_err() {
        text += "error\n";
    }
    text
}

#[test]
fn archives_are_read_as_by_go() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go");
    let go = std::fs::read_to_string(folder.join("go.txt")).unwrap();
    let mut archives = 0;
    for listed in go.split("== ").skip(1) {
        let (name, expected) = listed.split_once('\n').unwrap();
        // Go keeps the slash of a directory, and the type of a sparse file of old GNU tar. It does
        // not apply global headers, but lists them.
        let expected: String = expected
            .lines()
            .filter(|line| !line.starts_with('g'))
            .map(|line| line.replacen("/ ", " ", 1).replacen("S ", "0 ", 1) + "\n")
            .collect();
        assert_eq!(list(&folder.join(name)), expected, "{name}");
        archives += 1;
    }
    assert!(archives > 20, "{archives}");
}
