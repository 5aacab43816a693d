//! Files, directories and archives between a store and a step's directory; archives that want out of it, or too much.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use wasm_workflow_artifacts::archive::{Pack, Unpack};
use wasm_workflow_artifacts::quota::{Bounds, Quota};
use wasm_workflow_artifacts::transfer::{
    Download, Mode, Upload, Uploaded, download, merge, upload,
};
use wasm_workflow_artifacts::{DirectoryStore, Error, ErrorKind};

const LIMIT: u64 = 2 << 20;
const BOUNDS: Bounds = Bounds {
    bytes: LIMIT,
    entries: 100,
};

struct Fixture {
    step: tempfile::TempDir,
    root: Arc<Dir>,
    kept: tempfile::TempDir,
    store: DirectoryStore,
}

impl Fixture {
    fn new() -> Self {
        let (step, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = Arc::new(Dir::open_ambient_dir(step.path(), ambient_authority()).unwrap());
        let store = DirectoryStore::open(kept.path()).unwrap();
        Self {
            step,
            root,
            kept,
            store,
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.step.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), content).unwrap();
    }

    async fn up(&self, key: &str, path: &str, pack: Pack) -> Result<Uploaded, Error> {
        upload(&self.store, Upload { key, path, pack }, &self.root, LIMIT).await
    }

    async fn down(&self, key: &str, path: &str, unpack: Unpack) -> Result<(), Error> {
        download(
            &self.store,
            &Download {
                key,
                path,
                unpack,
                mode: None,
            },
            &self.root,
            &Quota::new(BOUNDS),
        )
        .await
    }

    /// Brings these bytes as an artifact.
    async fn bring(&self, bytes: &[u8], unpack: Unpack) -> Result<(), Error> {
        fs::write(self.kept.path().join("brought"), bytes).unwrap();
        self.down("brought", "in", unpack).await
    }

    /// Everything in the step's directory.
    fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut pending = vec![self.step.path().to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                found.push(
                    entry
                        .path()
                        .strip_prefix(self.step.path())
                        .unwrap()
                        .display()
                        .to_string(),
                );
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }
}

/// An archive of entries: a name, a kind, and what it links to or holds.
fn tar_gz(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        // The library refuses to write what leads out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_entry_type(*kind);
        if matches!(kind, EntryType::Regular) {
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content.as_bytes()).unwrap();
        } else {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
            header.set_cksum();
            builder.append(&header, &[][..]).unwrap();
        }
    }
    builder.into_inner().unwrap().finish().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const SAME: EntryType = EntryType::Link;
const DIRECTORY: EntryType = EntryType::Directory;

#[tokio::test]
async fn every_way_of_packing_makes_the_round_trip() {
    for (pack, unpack) in [
        (Pack::None, Unpack::None),
        (Pack::None, Unpack::Detect),
        (Pack::Tar(0), Unpack::Detect),
        (Pack::Tar(6), Unpack::Tar),
        (Pack::Zip, Unpack::Zip),
    ] {
        let f = Fixture::new();
        f.write("out/a", "one");
        f.write("out/deep/b", vec![7; 1 << 20]);
        let long = format!("out/{}", "n".repeat(200));
        f.write(&long, "long");
        symlink("/etc/passwd", f.at("out/link")).unwrap();
        let uploaded = f.up("k/dir", "out", pack).await.unwrap();
        assert_eq!(
            uploaded,
            Uploaded {
                bytes: 3 + (1 << 20) + 4,
                links: 1
            },
            "{pack:?}"
        );
        f.up("k/file", "out/a", pack).await.unwrap();
        f.down("k/dir", "in/dir", unpack).await.unwrap();
        f.down("k/file", "in/file", unpack).await.unwrap();
        assert_eq!(
            fs::read(f.at("in/dir/deep/b")).unwrap(),
            vec![7; 1 << 20],
            "{pack:?}"
        );
        assert_eq!(fs::read(f.at("in/file")).unwrap(), b"one", "{pack:?}");
        assert_eq!(
            fs::read(f.at(&long.replace("out/", "in/dir/"))).unwrap(),
            b"long"
        );
        assert!(
            !f.at("in/dir/link").exists()
                && f.all().iter().all(|path| !path.contains(".unpacking")),
            "{:?}",
            f.all()
        );
    }
}

#[tokio::test]
async fn links_and_empty_directories_stay_in_archives() {
    let f = Fixture::new();
    f.write("out/a/file", "x");
    fs::create_dir(f.at("out/empty")).unwrap();
    symlink("../a/file", f.at("out/a/../empty/inside")).unwrap();
    symlink("a/file", f.at("out/here")).unwrap();
    symlink("../../elsewhere", f.at("out/outside")).unwrap();
    assert_eq!(f.up("k", "out", Pack::Tar(6)).await.unwrap().links, 1);
    f.down("k", "in", Unpack::Detect).await.unwrap();
    assert_eq!(
        fs::read_link(f.at("in/here")).unwrap(),
        PathBuf::from("a/file")
    );
    assert_eq!(fs::read(f.at("in/empty/inside")).unwrap(), b"x");
    assert!(fs::symlink_metadata(f.at("in/outside")).is_err());
}

#[tokio::test]
async fn one_entry_becomes_the_artifact_and_several_a_directory() {
    let f = Fixture::new();
    f.bring(&tar_gz(&[("only", FILE, "x")]), Unpack::Detect)
        .await
        .unwrap();
    assert_eq!(fs::read(f.at("in")).unwrap(), b"x");
    let f = Fixture::new();
    f.bring(
        &tar_gz(&[
            ("./", DIRECTORY, ""),
            ("./a", FILE, "1"),
            ("/b/c", FILE, "2"),
            ("same", SAME, "a"),
        ]),
        Unpack::Tar,
    )
    .await
    .unwrap();
    assert_eq!(f.all(), ["in", "in/a", "in/b", "in/b/c", "in/same"]);
    assert_eq!(fs::read(f.at("in/same")).unwrap(), b"1");
    let f = Fixture::new();
    f.bring(
        &tar_gz(&[("a", FILE, "first"), ("a", FILE, "last"), ("b", FILE, "")]),
        Unpack::Tar,
    )
    .await
    .unwrap();
    assert_eq!(fs::read(f.at("in/a")).unwrap(), b"last");
}

#[tokio::test]
async fn what_wants_out_is_refused_and_leaves_nothing() {
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
            vec![("a", FILE, "1"), ("h", SAME, "../../etc/passwd")],
            "leads out of the archive",
        ),
        (vec![("a", FILE, "1"), ("h", SAME, "none")], "cannot be"),
        (
            vec![("a", FILE, "1"), ("l", LINK, "a"), ("h", SAME, "l")],
            "a hard link to something other than a file",
        ),
        (
            vec![("l", LINK, "elsewhere")],
            "the archive holds a link and nothing else",
        ),
        // Lexically inside, each of them.
        (
            vec![
                ("d/1/2/3/r", LINK, "../../../../d"),
                ("d/f", FILE, "x"),
                ("e", LINK, "d/1/2/3/r/../../../../etc/passwd"),
            ],
            "through other links",
        ),
    ] {
        let f = Fixture::new();
        let error = f
            .bring(&tar_gz(&entries), Unpack::Detect)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains(expected) || error.kind() == ErrorKind::Local,
            "{entries:?}: {error}"
        );
        assert!(!error.retryable(), "{error}");
        assert!(f.all().is_empty(), "{entries:?}: {:?}", f.all());
    }
    // Millions of headers of nothing are entries too.
    let none: Vec<(String, EntryType, &str)> = (0..200)
        .map(|number| (format!("f{number}"), EntryType::Fifo, ""))
        .collect();
    let none: Vec<(&str, EntryType, &str)> = none
        .iter()
        .map(|(name, kind, text)| (name.as_str(), *kind, *text))
        .collect();
    let error = Fixture::new()
        .bring(&tar_gz(&none), Unpack::Tar)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("more than 100 entries"),
        "{error}"
    );
    // A device is nothing that a module can use: it is left out, as by Argo.
    let f = Fixture::new();
    f.bring(
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
            "more than 2097152 bytes come out of the archive",
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
            "larger than 2097152 bytes",
        ),
    ] {
        let f = Fixture::new();
        let error = f.bring(&archive, unpack).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(f.all().is_empty(), "{expected}: {:?}", f.all());
    }
}

/// A zip has its directory in memory: it is not read before it is counted.
#[tokio::test]
async fn a_zip_of_many_entries_is_not_opened() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for number in 0..200 {
        writer
            .start_file(number.to_string(), zip::write::SimpleFileOptions::default())
            .unwrap();
    }
    let zip = writer.finish().unwrap().into_inner();
    let error = Fixture::new().bring(&zip, Unpack::Zip).await.unwrap_err();
    assert!(
        error.to_string().contains("more than 100 entries"),
        "{error}"
    );
}

/// Directories that only a name asks for are entries too.
#[tokio::test]
async fn a_name_of_many_directories_is_many_entries() {
    for (depth, fits) in [(90, true), (150, false)] {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, "d/".repeat(depth) + "file", &b"x"[..])
            .unwrap();
        let came = Fixture::new()
            .bring(&builder.into_inner().unwrap(), Unpack::Tar)
            .await;
        let too_many = came
            .as_ref()
            .is_err_and(|error| error.to_string().contains("more than 100 entries"));
        assert_eq!((came.is_ok(), too_many), (fits, !fits), "{came:?}");
    }
}

/// Each directory is one entry, however it is made; what is in the way of one is an error.
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
        .bring(&builder.into_inner().unwrap(), Unpack::Tar)
        .await
        .unwrap();
    let mut builder = Builder::new(Vec::new());
    builder
        .append_data(&mut header(EntryType::Regular), "a/f", &b""[..])
        .unwrap();
    builder
        .append_data(&mut header(EntryType::Directory), "a/f", &b""[..])
        .unwrap();
    Fixture::new()
        .bring(&builder.into_inner().unwrap(), Unpack::Tar)
        .await
        .unwrap_err();
}

/// What is there already, parents of outputs for example, stays; what is in the way goes.
#[test]
fn what_came_is_put_over_what_is_there() {
    let f = Fixture::new();
    f.write("in/7/a/b", "new");
    f.write("in/7/c", "new");
    f.write("out/src/a/kept", "old");
    f.write("out/src/c", "old");
    symlink("/etc/passwd", f.at("out/src/l")).unwrap();
    f.write("in/8", "plain");
    let (incoming, root) = (
        f.root.open_dir("in").unwrap(),
        f.root.open_dir("out").unwrap(),
    );
    merge(&incoming, "7", &root, "src").unwrap();
    merge(&incoming, "8", &root, "src/l").unwrap();
    assert_eq!(
        f.all(),
        [
            "in",
            "in/7",
            "in/7/a",
            "out",
            "out/src",
            "out/src/a",
            "out/src/a/b",
            "out/src/a/kept",
            "out/src/c",
            "out/src/l"
        ]
    );
    assert_eq!(fs::read(f.at("out/src/c")).unwrap(), b"new");
    assert_eq!(fs::read(f.at("out/src/l")).unwrap(), b"plain");
    f.write("in/9", "file");
    assert!(
        merge(&incoming, "9", &root, "src/a").is_err(),
        "no directory is removed for a file"
    );
}

/// 300 MB of zeros in 300 kB: within the limits on the disk, and no archive that anybody means.
#[tokio::test]
async fn what_grows_too_much_is_a_bomb() {
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
    let f = Fixture::new();
    fs::write(f.kept.path().join("bomb"), &packed).unwrap();
    let what = Download {
        key: "bomb",
        path: "in",
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

#[tokio::test]
async fn permissions_are_set_on_what_came() {
    let f = Fixture::new();
    f.write("out/d/file", "x");
    f.up("k", "out", Pack::Tar(6)).await.unwrap();
    let mode = |path: &str| fs::metadata(f.at(path)).unwrap().permissions().mode() & 0o777;
    for (recurse, directory, file) in [(false, 0o755, 0o644), (true, 0o755, 0o555)] {
        let what = Download {
            key: "k",
            path: "in",
            unpack: Unpack::Detect,
            mode: Some(Mode {
                bits: 0o555,
                recursive: recurse,
            }),
        };
        download(&f.store, &what, &f.root, &Quota::new(BOUNDS))
            .await
            .unwrap();
        assert_eq!(
            (mode("in"), mode("in/d/file")),
            (directory, file),
            "{recurse}"
        );
        fs::remove_dir_all(f.at("in")).unwrap();
    }
}

#[tokio::test]
async fn nothing_leaves_by_a_link_or_a_climbing_key() {
    let f = Fixture::new();
    symlink("/etc/passwd", f.at("link")).unwrap();
    for pack in [Pack::None, Pack::Tar(6), Pack::Zip] {
        assert!(f.up("k", "link", pack).await.is_err());
        assert!(f.up("k", "../../etc/passwd", pack).await.is_err());
        assert_eq!(
            f.up("k", "none", pack).await.unwrap_err().kind(),
            ErrorKind::Local
        );
    }
    assert!(
        f.down("../../../etc/passwd", "x", Unpack::None)
            .await
            .is_err()
    );
    assert!(
        fs::read_dir(f.kept.path()).unwrap().next().is_none(),
        "no object was begun"
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_whatever_its_blocks() {
    let f = Fixture::new();
    fs::File::create(f.at("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for pack in [Pack::None, Pack::Tar(0), Pack::Zip] {
        let error = f.up("k", "sparse", pack).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFile, "{error}");
        assert!(
            fs::read_dir(f.kept.path()).unwrap().next().is_none(),
            "{pack:?}: nothing half-written is kept"
        );
    }
    assert_eq!(
        f.down("none", "x", Unpack::Detect)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

/// A guest's own thread could be at it still: what is a directory in one moment is a link out of it in the next.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaves_while_the_directory_changes() {
    let f = Fixture::new();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("d")).unwrap();
    for name in ["a", "b", "d/c"] {
        fs::write(outside.path().join(name), "secret").unwrap();
        f.write(&format!("out/{name}"), "inside");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, out, elsewhere) = (Arc::clone(&stop), f.at("out"), outside.path().to_owned());
    let changing = std::thread::spawn(move || {
        let (file, directory, aside) = (out.join("a"), out.join("d"), out.with_file_name("aside"));
        let mut swaps = 0u32;
        while !stopped.load(Ordering::Relaxed) {
            fs::rename(&directory, &aside).unwrap();
            symlink(elsewhere.join("d"), &directory).unwrap();
            fs::remove_file(&file).unwrap();
            symlink(elsewhere.join("a"), &file).unwrap();
            fs::remove_file(&directory).unwrap();
            fs::rename(&aside, &directory).unwrap();
            fs::remove_file(&file).unwrap();
            fs::write(&file, "inside").unwrap();
            swaps += 1;
        }
        swaps
    });
    let mut whole = 0;
    for round in 0..300 {
        let pack = [Pack::None, Pack::Tar(1), Pack::Zip][round % 3];
        let key = format!("k{round}");
        // It may fail, as what is gone cannot be taken.
        whole += usize::from(f.up(&key, "out", pack).await.is_ok());
        let _ = fs::remove_dir_all(f.at("back"));
        let unpack = [Unpack::None, Unpack::Tar, Unpack::Zip][round % 3];
        if f.down(&key, "back", unpack).await.is_err() {
            continue;
        }
        for name in ["a", "b", "d/c"] {
            // A link that was taken as one leads out: it is read here without being followed.
            let path = f.at(&format!("back/{name}"));
            if fs::symlink_metadata(&path).is_ok_and(|there| there.is_file()) {
                assert_ne!(
                    fs::read_to_string(&path).unwrap(),
                    "secret",
                    "{name} in round {round}"
                );
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(
        changing.join().unwrap() > 100 && whole > 20,
        "both went on: {whole}"
    );
}
