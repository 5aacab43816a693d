//! Modules to run.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
}

/// Where `modules/build` puts the guests.
pub fn directory() -> PathBuf {
    repository().join("modules/target/wasm")
}

/// A guest of `modules/`, built from source.
pub fn guest(name: &str) -> PathBuf {
    let path = directory().join(format!("{name}.wasm"));
    assert!(path.is_file(), "there is no `{}`: run modules/build, or integration/test, which does", path.display());
    path
}

/// A program that nobody here wrote, fetched by `integration/fetch-programs`.
pub fn program(name: &str) -> PathBuf {
    let path = repository().join("target/programs").join(name);
    assert!(
        path.exists(),
        "there is no `{}`: run integration/fetch-programs, or integration/test, which does",
        path.display()
    );
    path
}
