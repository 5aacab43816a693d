//! Artifacts that are stored and downloaded again, and their place in the directory of a step.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use wasm_workflow_artifacts::archive::{Pack, Unpack};
use wasm_workflow_artifacts::quota::Quota;
use wasm_workflow_artifacts::transfer::{Download, Mode, Uploaded, download, merge};

use crate::{BOUNDS, DIRECTORY, FILE, Fixture, HARD_LINK, tar_gz};

#[tokio::test]
async fn each_archive_strategy_makes_the_round_trip() {
    for (pack, unpack) in [
        (Pack::None, Unpack::None),
        (Pack::None, Unpack::Detect),
        (Pack::Tar(0), Unpack::Detect),
        (Pack::Tar(6), Unpack::Tar),
        (Pack::Zip, Unpack::Zip),
    ] {
        let f = Fixture::new().await;
        f.write("out/a", "one");
        f.write("out/deep/b", vec![7; 1 << 20]);
        let long = format!("out/{}", "n".repeat(200));
        f.write(&long, "long");
        symlink("/etc/passwd", f.at("out/link")).unwrap();
        let uploaded = f.upload("k/dir", "out", pack).await.unwrap();
        assert_eq!(
            uploaded,
            Uploaded {
                bytes: 3 + (1 << 20) + 4,
                links: 1
            },
            "{pack:?}"
        );
        f.upload("k/file", "out/a", pack).await.unwrap();
        f.download("k/dir", "in/dir", unpack).await.unwrap();
        f.download("k/file", "in/file", unpack).await.unwrap();
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
                && f.paths().iter().all(|path| !path.contains(".unpacking")),
            "{:?}",
            f.paths()
        );
    }
}

#[tokio::test]
async fn links_and_empty_directories_stay_in_archives() {
    let f = Fixture::new().await;
    f.write("out/a/file", "x");
    fs::create_dir(f.at("out/empty")).unwrap();
    symlink("../a/file", f.at("out/a/../empty/inside")).unwrap();
    symlink("a/file", f.at("out/here")).unwrap();
    symlink("../../elsewhere", f.at("out/outside")).unwrap();
    assert_eq!(f.upload("k", "out", Pack::Tar(6)).await.unwrap().links, 1);
    f.download("k", "in", Unpack::Detect).await.unwrap();
    assert_eq!(
        fs::read_link(f.at("in/here")).unwrap(),
        PathBuf::from("a/file")
    );
    assert_eq!(fs::read(f.at("in/empty/inside")).unwrap(), b"x");
    assert!(fs::symlink_metadata(f.at("in/outside")).is_err());
}

#[tokio::test]
async fn one_entry_becomes_the_artifact_and_several_a_directory() {
    let f = Fixture::new().await;
    f.fetch(&tar_gz(&[("only", FILE, "x")]), Unpack::Detect)
        .await
        .unwrap();
    assert_eq!(fs::read(f.at("in")).unwrap(), b"x");
    let f = Fixture::new().await;
    f.fetch(
        &tar_gz(&[
            ("./", DIRECTORY, ""),
            ("./a", FILE, "1"),
            ("/b/c", FILE, "2"),
            ("same", HARD_LINK, "a"),
        ]),
        Unpack::Tar,
    )
    .await
    .unwrap();
    assert_eq!(f.paths(), ["in", "in/a", "in/b", "in/b/c", "in/same"]);
    assert_eq!(fs::read(f.at("in/same")).unwrap(), b"1");
    let f = Fixture::new().await;
    f.fetch(
        &tar_gz(&[("a", FILE, "first"), ("a", FILE, "last"), ("b", FILE, "")]),
        Unpack::Tar,
    )
    .await
    .unwrap();
    assert_eq!(fs::read(f.at("in/a")).unwrap(), b"last");
}

/// Existing directories stay, for example the parents of outputs. Existing files and links are
/// replaced.
#[tokio::test]
async fn a_merge_keeps_directories_and_replaces_files() {
    let f = Fixture::new().await;
    f.write("in/7/a/b", "new");
    f.write("in/7/c", "new");
    f.write("out/src/a/kept", "old");
    f.write("out/src/c", "old");
    symlink("/etc/passwd", f.at("out/src/l")).unwrap();
    f.write("in/8", "plain");
    let incoming = f.root.open_dir("in").unwrap();
    let root = f.root.open_dir("out").unwrap();
    merge(&incoming, "7", &root, "src").unwrap();
    merge(&incoming, "8", &root, "src/l").unwrap();
    assert_eq!(
        f.paths(),
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
        "a file does not replace a directory"
    );
}

#[tokio::test]
async fn permissions_are_set_on_inputs() {
    let f = Fixture::new().await;
    f.write("out/d/file", "x");
    f.upload("k", "out", Pack::Tar(6)).await.unwrap();
    let mode = |path: &str| fs::metadata(f.at(path)).unwrap().permissions().mode() & 0o777;
    for (recurse, directory, file) in [(false, 0o755, 0o644), (true, 0o755, 0o555)] {
        let what = Download {
            key: "k",
            path: "in",
            seen_at: "/work/in",
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
