//! Input artifacts in archives that old or other programs made.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use wasm_workflow_integration::other_programs::succeed;
use wasm_workflow_integration::s3::S3;

use super::{copy, executor, key};

fn run(home: &Path, program: &str, arguments: &[&str]) {
    succeed(Command::new(program).args(arguments).current_dir(home));
}

/// A gzipped archive from before POSIX: a directory is a name with a slash at its end, and its type
/// is NUL.
fn old_archive() -> Vec<u8> {
    let entry = |name: &str, content: &str| {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[156] = 0;
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut entry = [header.as_bytes(), content.as_bytes()].concat();
        entry.resize(entry.len().next_multiple_of(512), 0);
        entry
    };
    let archive = [
        entry("d/", ""),
        entry("d/file.txt", "hello\n"),
        entry("top.txt", "hello\n"),
        vec![0; 1024],
    ];
    gzip(&archive.concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_all_programs_reach_the_module_as_they_were_packed() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let home = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(home.path().join("d.img")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    let mut image = vec![0; 1 << 20];
    image[..5].copy_from_slice(b"begin");
    std::fs::write(home.path().join("README.md"), "read me").unwrap();
    std::fs::write(home.path().join("other"), "").unwrap();
    for (archive, program, arguments) in [
        (
            "posix",
            "tar",
            &["--format=posix", "-S", "-czf", "posix", "d.img"][..],
        ),
        (
            "gnu",
            "tar",
            &["--format=gnu", "-S", "-czf", "gnu", "d.img"],
        ),
        ("bsd", "bsdtar", &["-czf", "bsd", "d.img"]),
        ("padded", "tar", &["-czf", "padded", "README.md", "other"]),
    ] {
        run(home.path(), program, arguments);
        s3.put(archive, std::fs::read(home.path().join(archive)).unwrap());
    }
    let mut padded = std::fs::read(home.path().join("padded")).unwrap();
    padded.extend([0; 512]);
    s3.put("padded", &padded);
    s3.put("old", old_archive());
    for (archive, file, expected) in [
        ("posix", "/in/text", &image[..]),
        ("gnu", "/in/text", &image),
        ("bsd", "/in/text", &image),
        ("padded", "/in/text/README.md", b"read me"),
        ("old", "/in/text/d/file.txt", b"hello\n"),
        ("old", "/in/text/top.txt", b"hello\n"),
    ] {
        let mut step = copy(
            &json!({"s3": {"key": archive}}),
            &json!({"archive": {"none": {}}}),
        );
        step["plugin"]["wasm"]["args"] = json!([file, "/out/copy"]);
        let node = executor.node(&step).await;
        assert_eq!(node["phase"], "Succeeded", "{archive}: {node}");
        let found = std::fs::read(s3.object(key(&node))).unwrap();
        assert!(found == expected, "{archive}: {} bytes", found.len());
    }
}

/// The link leads to the artifact by the path at which the module sees it.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_follows_an_absolute_link_in_its_input() {
    let s3 = S3::start().await;
    let executor = executor(&s3);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("tree")).unwrap();
    std::fs::write(home.path().join("tree/file"), "one two").unwrap();
    std::os::unix::fs::symlink("/in/text/file", home.path().join("tree/link")).unwrap();
    run(home.path(), "tar", &["-czf", "a.tgz", "tree"]);
    s3.put("a", std::fs::read(home.path().join("a.tgz")).unwrap());
    let mut step = copy(&json!({"s3": {"key": "a"}}), &json!({}));
    step["plugin"]["wasm"]["args"] = json!(["/in/text/link", "/out/copy"]);
    let node = executor.node(&step).await;
    assert_eq!(node["outputs"]["result"], "2", "{node}");
    std::os::unix::fs::symlink("/etc/passwd", home.path().join("tree/out")).unwrap();
    run(home.path(), "tar", &["-czf", "a.tgz", "tree"]);
    s3.put("a", std::fs::read(home.path().join("a.tgz")).unwrap());
    let node = executor.node(&step).await;
    assert!(
        node["message"]
            .as_str()
            .is_some_and(|message| message.contains("leads out of the archive")),
        "{node}"
    );
}
