//! Archives of GNU tar, bsdtar and Python, and archives for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use wasm_workflow_artifacts::archive::{Pack, Unpack};

use crate::Fixture;

/// Runs a program in a directory. Panics if the program fails.
fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A file or link below a directory.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Directory,
    Link(String),
    File { mode: u32, content: Vec<u8> },
}

/// Everything below a directory, by path.
fn tree(directory: &Path) -> BTreeMap<String, Found> {
    let mut all = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let found = if metadata.is_dir() {
                pending.push(path.clone());
                Found::Directory
            } else if metadata.is_symlink() {
                Found::Link(fs::read_link(&path).unwrap().display().to_string())
            } else {
                Found::File {
                    mode: metadata.permissions().mode() & 0o777,
                    content: fs::read(&path).unwrap(),
                }
            };
            let name = path.strip_prefix(directory).unwrap();
            all.insert(name.display().to_string(), found);
        }
    }
    all
}

/// Names and paths of an archive in each form.
fn write_files(tree: &Path) {
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("plain.txt"), "plain").unwrap();
    fs::write(tree.join("sub/gr\u{fc}n \u{65e5}\u{672c}.txt"), "names").unwrap();
    fs::write(tree.join("run.sh"), "#!").unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(tree.join("plain.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../plain.txt", tree.join("sub/link")).unwrap();
    fs::hard_link(tree.join("plain.txt"), tree.join("sub/same.txt")).unwrap();
}

/// Sparse files: with one segment, with many segments, with a hole at the end, and without data.
fn write_sparse_files(tree: &Path) {
    let sparse = |name: &str, size: u64, segments: &[u64]| {
        let file = fs::File::create(tree.join(name)).unwrap();
        file.set_len(size).unwrap();
        for offset in segments {
            file.write_all_at(format!("at {offset}").as_bytes(), *offset)
                .unwrap();
        }
    };
    sparse("d.img", 1 << 20, &[0]);
    sparse("end.img", 100_000, &[99_990]);
    sparse("empty.img", 70_001, &[]);
    let many: Vec<u64> = (0..40).map(|number| 4096 + number * 12_288).collect();
    sparse("many.img", 500_001, &many);
}

#[tokio::test]
async fn archives_of_gnu_tar_bsdtar_and_python_are_unpacked_as_they_were_packed() {
    const PYTHON: &str = "import sys, tarfile
with tarfile.open('a.tgz', 'w:gz', format=getattr(tarfile, sys.argv[1])) as archive: archive.add('tree')";
    let home = tempfile::tempdir().unwrap();
    let files = home.path().join("tree");
    write_files(&files);
    let gnu = |arguments: &[&str]| {
        let arguments = [arguments, &["-czf", "a.tgz", "tree"]].concat();
        run(home.path(), "tar", &arguments);
    };
    let bsd = |format: &str| {
        run(
            home.path(),
            "bsdtar",
            &["--format", format, "-czf", "a.tgz", "tree"],
        );
    };
    let check = async |what: &str| {
        let f = Fixture::new().await;
        let archive = fs::read(home.path().join("a.tgz")).unwrap();
        f.fetch(&archive, Unpack::Detect).await.unwrap();
        assert!(tree(&f.at("in")) == tree(&files), "{what}: {:?}", f.paths());
    };
    gnu(&["--format=v7"]);
    check("v7").await;
    let deep = files.join("d".repeat(90)).join("d".repeat(90));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    gnu(&["--format=ustar"]);
    check("ustar").await;
    bsd("ustar");
    check("ustar of bsdtar").await;
    run(home.path(), "python3", &["-c", PYTHON, "USTAR_FORMAT"]);
    check("ustar of Python").await;
    fs::write(files.join("n".repeat(250)), "long").unwrap();
    symlink("n".repeat(250), files.join("to-long")).unwrap();
    write_sparse_files(&files);
    for arguments in [
        &["--format=oldgnu"][..],
        &["--format=oldgnu", "-S"],
        &["--format=gnu", "-S"],
        &["--format=gnu", "-S", "--hole-detection=raw"],
        &["--format=gnu", "-S", "--listed-incremental=new"],
        &["--format=posix"],
        &["--format=posix", "-S"],
        &["--format=posix", "-S", "--sparse-version=0.0"],
        &["--format=posix", "-S", "--sparse-version=0.1"],
        &["--format=posix", "-S", "--sparse-version=1.0"],
        &["--format=posix", "-S", "--hole-detection=raw"],
        &["--format=posix", "-S", "-b", "200", "--label=name"],
    ] {
        gnu(arguments);
        check(&arguments.join(" ")).await;
    }
    for format in ["pax", "gnutar"] {
        bsd(format);
        check(format).await;
    }
    for format in ["GNU_FORMAT", "PAX_FORMAT"] {
        run(home.path(), "python3", &["-c", PYTHON, format]);
        check(format).await;
    }
}

/// The files of a step are unpacked by other programs as they are.
#[tokio::test]
async fn outputs_are_unpacked_by_gnu_tar_bsdtar_and_python() {
    // Argo's executor creates a parent without an entry with the mode of the file.
    const ZIP: &str = "import sys, zipfile
seen = set()
for entry in zipfile.ZipFile(sys.argv[1]).infolist():
    parent = entry.filename.rstrip('/').rpartition('/')[0]
    assert not parent or parent + '/' in seen, entry
    if entry.is_dir():
        assert entry.external_attr >> 16 == 0o40755, entry
        seen.add(entry.filename)
assert {'out/', 'out/sub/empty/'} <= seen, seen
assert zipfile.ZipFile(sys.argv[1]).testzip() is None";
    let f = Fixture::new().await;
    let files = f.at("out");
    write_files(&files);
    fs::write(files.join("n".repeat(250)), "long").unwrap();
    let name = format!("out/{}", "d/".repeat(70));
    f.write(&format!("{name}file"), "deep");
    f.upload("a.tgz", "out", Pack::Tar(6)).await.unwrap();
    f.upload("a.zip", "out", Pack::Zip).await.unwrap();
    let mut expected = tree(&files);
    let packed = |name: &str| f.stored.path().join(name).display().to_string();
    let check = |program: &str, arguments: &[&str], expected: &BTreeMap<String, Found>| {
        let home = tempfile::tempdir().unwrap();
        run(home.path(), program, arguments);
        let found = tree(&home.path().join("out"));
        assert!(found == *expected, "{program} {arguments:?}: {found:?}");
    };
    check("tar", &["-xpzf", &packed("a.tgz")], &expected);
    check("bsdtar", &["-xpf", &packed("a.tgz")], &expected);
    check(
        "python3",
        &[
            "-c",
            "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(filter='fully_trusted')",
            &packed("a.tgz"),
        ],
        &expected,
    );
    // A zip archive of Argo has no links.
    expected.retain(|_, found| !matches!(found, Found::Link(_)));
    check("bsdtar", &["-xpf", &packed("a.zip")], &expected);
    run(&files, "python3", &["-c", ZIP, &packed("a.zip")]);
}

#[tokio::test]
async fn the_holes_of_an_input_take_no_space() {
    let home = tempfile::tempdir().unwrap();
    let file = fs::File::create(home.path().join("d.img")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    for arguments in [
        &["--format=posix", "-S", "-czf", "a.tgz", "d.img"][..],
        &["--format=gnu", "-S", "-czf", "a.tgz", "d.img"],
    ] {
        run(home.path(), "tar", arguments);
        let f = Fixture::new().await;
        let archive = fs::read(home.path().join("a.tgz")).unwrap();
        f.fetch(&archive, Unpack::Detect).await.unwrap();
        let metadata = fs::metadata(f.at("in")).unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        let blocks = metadata.blocks() * 512;
        assert!(blocks <= 256 << 10, "{blocks} bytes on the disk");
        assert_eq!(&fs::read(f.at("in")).unwrap()[..6], b"begin\0");
    }
}
