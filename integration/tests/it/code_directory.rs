//! The code directory: other users cannot make the executor run their machine code.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use wasm_workflow_integration::executor::{Executor, Options};

use crate::template_of_wat;

/// WebAssembly text of a module that prints a word of five letters.
fn says(word: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\05\00\00\00{word}")
          (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"#
    )
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn options(modules: &Path, code: &Path) -> Options {
    Options {
        flags: vec!["--code-dir".to_owned(), code.display().to_string()],
        config: Some(serde_json::json!({"sources": {"fileRoot": modules}}).to_string()),
        ..Options::default()
    }
}

fn start(modules: &Path, code: &Path) -> Executor {
    Executor::start_with(options(modules, code))
}

/// The two files of the only module in a code directory: the code and its checksum.
fn stored_files(code: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path())
    };
    entries(code).flat_map(|path| entries(&path)).collect()
}

/// Renames the code directory and puts another one in its place, with the machine code of the
/// module `evil` under the digest of the module `honest`.
#[tokio::test]
async fn machine_code_in_a_directory_that_replaces_the_code_directory_is_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let honest = template_of_wat(directory.path(), "honest", &says("honst"));
    let evil = template_of_wat(directory.path(), "evil", &says("PWNED"));
    let code = directory.path().join("code");
    let planted = directory.path().join("planted");
    assert_eq!(
        start(directory.path(), &code).node(&honest).await["outputs"]["result"],
        "honst"
    );
    let honest_files = stored_files(&code);
    fs::rename(&code, directory.path().join("first")).unwrap();
    assert_eq!(
        start(directory.path(), &planted).node(&evil).await["outputs"]["result"],
        "PWNED"
    );
    for file in stored_files(&planted) {
        let has_extension = |other: &&PathBuf| other.extension() == file.extension();
        let name = honest_files.iter().find(has_extension).unwrap().file_name();
        fs::rename(&file, file.with_file_name(name.unwrap())).unwrap();
    }
    let executor = start(directory.path(), &code);
    // The executor has opened the directory when it is ready.
    assert_eq!(executor.node(&evil).await["outputs"]["result"], "PWNED");
    fs::rename(&code, directory.path().join("second")).unwrap();
    fs::rename(&planted, &code).unwrap();
    assert_eq!(executor.node(&honest).await["outputs"]["result"], "honst");
    assert_eq!(stored_files(&directory.path().join("second")).len(), 4);
}

#[tokio::test]
async fn code_is_not_stored_below_a_directory_that_other_users_can_write() {
    let directory = tempfile::tempdir().unwrap();
    let module = template_of_wat(directory.path(), "honest", &says("honst"));
    let parent = directory.path().join("parent");
    fs::create_dir_all(parent.join("middle")).unwrap();
    // An `emptyDir` of Kubernetes, an `emptyDir` with `fsGroup`, a directory of a group, `/tmp`,
    // and an ordinary directory.
    for (mode, is_safe) in [
        (0o777, false),
        (0o2777, false),
        (0o775, false),
        (0o1777, true),
        (0o755, true),
    ] {
        set_mode(&parent, mode);
        let code = parent.join(format!("middle/{mode:o}"));
        let executor = start(directory.path(), &code);
        assert_eq!(executor.node(&module).await["outputs"]["result"], "honst");
        let log = executor.log();
        let warning = log
            .lines()
            .find(|line| line.contains("cannot use the code directory"));
        match is_safe {
            true => assert_eq!(warning, None),
            false => assert!(
                warning.is_some_and(|line| line.contains("set the sticky bit")),
                "{mode:o}: {log}"
            ),
        }
        assert_eq!(stored_files(&code).len(), if is_safe { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_warning_says_that_other_users_can_replace_the_cache_or_scratch_directory() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().join("parent");
    fs::create_dir(&parent).unwrap();
    for (mode, warns) in [(0o777, true), (0o755, false)] {
        set_mode(&parent, mode);
        let executor = Executor::start_with(Options {
            scratch: Some(parent.join("scratch")),
            ..Options::default()
        });
        executor
            .node(&wasm_workflow_integration::executor::template(
                "noop-command",
            ))
            .await;
        let log = executor.log();
        assert_eq!(
            log.contains("other users can replace files of modules or steps"),
            warns,
            "{log}"
        );
    }
}

/// The code of each module is larger than the file system of the code directory.
#[tokio::test]
async fn modules_are_compiled_into_memory_if_the_code_directory_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let code = directory.path().join("code");
    fs::create_dir(&code).unwrap();
    let mount = "mount -t tmpfs -o size=8k tmpfs \"$CODE\" && chmod 700 \"$CODE\" && exec \"$@\"";
    let executor = Executor::start_with(Options {
        env: vec![("CODE".to_owned(), code.display().to_string())],
        wrapper: ["unshare", "--mount", "sh", "-c", mount, "sh"]
            .map(str::to_owned)
            .to_vec(),
        ..options(directory.path(), &code)
    });
    for word in ["first", "other", "first"] {
        let template = template_of_wat(directory.path(), word, &says(word));
        let node = executor.node(&template).await;
        assert_eq!(node["outputs"]["result"], word, "{node}");
    }
    let log = executor.log();
    assert!(log.contains("the code directory is full"), "{log}");
    assert_eq!(log.matches(": compiled module=").count(), 2, "{log}");
}
