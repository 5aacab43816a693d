//! Modules to run.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
        .to_owned()
}

/// Where `modules/build` puts the guests.
pub fn directory() -> PathBuf {
    repository().join("modules/target/wasm")
}

/// A guest of `modules/`, built from source.
pub fn guest(name: &str) -> PathBuf {
    let path = directory().join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "there is no `{}`: run modules/build, or integration/test, which does",
        path.display()
    );
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

/// A module of so many bytes, that has nothing but a custom section of `fill`.
pub fn padding(size: usize, fill: u8) -> Vec<u8> {
    // The section's length in LEB128, in as many digits as it may have.
    let length = size - 13;
    let digit = |place: usize| u8::try_from((length >> (7 * place)) & 0x7f).expect("seven bits");
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    module.extend([digit(0) | 0x80, digit(1) | 0x80, digit(2) | 0x80, digit(3)]);
    module.extend([1, b'x']);
    module.resize(size, fill);
    module
}
