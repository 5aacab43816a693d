//! Paths of the modules and programs that the tests run.

use std::path::{Path, PathBuf};

/// Root directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a parent")
        .to_owned()
}

/// Directory into which `modules/build` writes the guests.
pub fn directory() -> PathBuf {
    repository().join("modules/target/wasm")
}

/// Path of a guest of `modules/`, built from source. Panics if the guest is not built.
pub fn guest(name: &str) -> PathBuf {
    let path = directory().join(format!("{name}.wasm"));
    assert!(
        path.is_file(),
        "`{}` does not exist; run modules/build or integration/test",
        path.display()
    );
    path
}

/// Path of a program of another project, fetched by `integration/fetch-programs`. Panics if the
/// program is not there.
pub fn program(name: &str) -> PathBuf {
    let path = repository().join("target/programs").join(name);
    assert!(
        path.exists(),
        "`{}` does not exist; run integration/fetch-programs or integration/test",
        path.display()
    );
    path
}

/// A module of `size` bytes. Its only content is a custom section filled with the byte `fill`.
pub fn padding(size: usize, fill: u8) -> Vec<u8> {
    // The length of the section in LEB128, always with four digits.
    let length = size - 13;
    let digit =
        |position: usize| u8::try_from((length >> (7 * position)) & 0x7f).expect("seven bits");
    let mut module = b"\0asm\x01\0\0\0\0".to_vec();
    module.extend([digit(0) | 0x80, digit(1) | 0x80, digit(2) | 0x80, digit(3)]);
    module.extend([1, b'x']);
    module.resize(size, fill);
    module
}
