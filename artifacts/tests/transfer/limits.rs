//! Keys, links and sizes that an upload refuses, also while a guest changes the directory.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasm_workflow_artifacts::ErrorKind;
use wasm_workflow_artifacts::archive::{Pack, Unpack};

use crate::Fixture;

#[tokio::test]
async fn links_and_keys_may_not_lead_out() {
    let f = Fixture::new().await;
    symlink("/etc/passwd", f.at("link")).unwrap();
    for pack in [Pack::None, Pack::Tar(6), Pack::Zip] {
        assert!(f.upload("k", "link", pack).await.is_err());
        assert!(f.upload("k", "../../etc/passwd", pack).await.is_err());
        assert_eq!(
            f.upload("k", "none", pack).await.unwrap_err().kind(),
            ErrorKind::Local
        );
    }
    assert!(
        f.download("../../../etc/passwd", "x", Unpack::None)
            .await
            .is_err()
    );
    assert!(
        fs::read_dir(f.stored.path()).unwrap().next().is_none(),
        "no object was started"
    );
}

#[tokio::test]
async fn sparse_files_count_with_their_length() {
    let f = Fixture::new().await;
    fs::File::create(f.at("sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for pack in [Pack::None, Pack::Tar(0), Pack::Zip] {
        let error = f.upload("k", "sparse", pack).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidFile, "{error}");
        assert!(
            fs::read_dir(f.stored.path()).unwrap().next().is_none(),
            "{pack:?}: no incomplete object is left"
        );
    }
    assert_eq!(
        f.download("none", "x", Unpack::Detect)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
}

/// A thread of the guest may still change the directory: it replaces files and directories with
/// links that lead out.
#[tokio::test(flavor = "multi_thread")]
async fn no_content_from_outside_is_uploaded_while_the_directory_changes() {
    let f = Fixture::new().await;
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("d")).unwrap();
    for name in ["a", "b", "d/c"] {
        fs::write(outside.path().join(name), "secret").unwrap();
        f.write(&format!("out/{name}"), "inside");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let out = f.at("out");
    let elsewhere = outside.path().to_owned();
    let changing = std::thread::spawn(move || {
        let file = out.join("a");
        let directory = out.join("d");
        let aside = out.with_file_name("aside");
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
    let mut complete = 0;
    for round in 0..300 {
        let pack = [Pack::None, Pack::Tar(1), Pack::Zip][round % 3];
        let key = format!("k{round}");
        // An upload fails if a file is missing at the moment.
        complete += usize::from(f.upload(&key, "out", pack).await.is_ok());
        let _ = fs::remove_dir_all(f.at("back"));
        let unpack = [Unpack::None, Unpack::Tar, Unpack::Zip][round % 3];
        if f.download(&key, "back", unpack).await.is_err() {
            continue;
        }
        for name in ["a", "b", "d/c"] {
            // The upload may hold a link that leads out. The test does not follow it.
            let path = f.at(&format!("back/{name}"));
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
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
        changing.join().unwrap() > 100 && complete > 20,
        "both threads made progress: {complete}"
    );
}
