//! Bytes that are not a WebAssembly binary, and what they are instead.

/// The reason why bytes are not a WebAssembly binary that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWasm {
    /// The bytes have another format.
    #[error("this is not WebAssembly but {found}")]
    Other {
        /// A description of the format.
        found: String,
        /// What to do with a file of this format.
        hint: &'static str,
    },
    /// The bytes begin like WebAssembly, and then end too early or cannot be parsed.
    #[error("the module is damaged: {0}")]
    Damaged(String),
    /// The bytes can be parsed, and break a rule of WebAssembly.
    #[error("the module is not valid WebAssembly: {0}")]
    Invalid(String),
}

const CHECK_REFERENCE: &str = "check the reference: it must name the module itself";
const BUILD_AGAIN: &str = "build the module again, for WASI 0.1, 0.2 or 0.3";
const BUILD_FOR_WASI: &str = "build the program for WASI, such as `wasm32-wasip1`";
const USE_WASM_FILE: &str = "use the `.wasm` file from which this file was made";
const ASSEMBLE: &str = "compile it with `wasm-tools parse`";
const LINK: &str = "link it into a program, such as with `clang --target=wasm32-wasip1`";

/// Formats that a few bytes at the beginning identify.
const FORMATS: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "gzip-compressed data", CHECK_REFERENCE),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data", CHECK_REFERENCE),
    (b"BZh", "bzip2-compressed data", CHECK_REFERENCE),
    (b"\xfd7zXZ\0", "xz-compressed data", CHECK_REFERENCE),
    (b"PK\x03\x04", "a zip archive", CHECK_REFERENCE),
    (b"\0webc", "a WEBC package", CHECK_REFERENCE),
    // The eighth byte of code that wasmtime compiled is 200 (`ELFOSABI_WASMTIME`).
    (
        b"\x7fELF\x02\x01\x01\xc8",
        "machine code that wasmtime compiled (`.cwasm`)",
        USE_WASM_FILE,
    ),
    (
        b"wasmer-universal",
        "machine code that Wasmer compiled",
        USE_WASM_FILE,
    ),
    (
        b"\0aot",
        "machine code that WAMR compiled (`.aot`)",
        USE_WASM_FILE,
    ),
    (b"\x7fELF", "a native (ELF) program", BUILD_FOR_WASI),
    (b"MZ", "a native (Windows) program", BUILD_FOR_WASI),
    (
        b"\xcf\xfa\xed\xfe",
        "a native (macOS) program",
        BUILD_FOR_WASI,
    ),
    (b"!<arch>\n", "a static library", LINK),
    (b"BC\xc0\xde", "LLVM bitcode", LINK),
    (b"#!", "a script", BUILD_FOR_WASI),
    (
        b"version https://git-lfs.github.com/spec",
        "a pointer of Git LFS",
        "fetch the file with `git lfs pull`, and publish the module again",
    ),
];

impl NotWasm {
    /// What the author of the module, or of the template, can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Other { hint, .. } => hint,
            Self::Damaged(_) => CHECK_REFERENCE,
            Self::Invalid(_) => BUILD_AGAIN,
        }
    }
}

/// Whether the bytes are a component. Reads the eight bytes with which every WebAssembly binary
/// starts (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>).
pub(super) fn is_component(bytes: &[u8]) -> Result<bool, NotWasm> {
    let old = |found: String| NotWasm::Other {
        found,
        hint: "build the module again, with a current toolchain",
    };
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(false),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(true),
        [0, b'a', b's', b'm', version, 0, 1, 0, ..] => Err(old(format!(
            "a component in the pre-release format {version}"
        ))),
        [0, b'a', b's', b'm', rest @ ..] if rest.len() >= 4 => Err(old(format!(
            "a WebAssembly binary of an unknown version ({})",
            hex(&rest[..4])
        ))),
        [0, b'a', b's', b'm', ..] => Err(NotWasm::Damaged(
            "it ends within its first eight bytes".to_owned(),
        )),
        _ => Err(describe(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A description of bytes that are not WebAssembly, from their beginning.
fn describe(bytes: &[u8]) -> NotWasm {
    let other = |found: &str, hint| NotWasm::Other {
        found: found.to_owned(),
        hint,
    };
    if bytes.is_empty() {
        return other("an empty file", CHECK_REFERENCE);
    }
    let mut formats = FORMATS.iter();
    if let Some((_, found, hint)) = formats.find(|(magic, ..)| bytes.starts_with(magic)) {
        return other(found, hint);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return other("a tar archive", CHECK_REFERENCE);
    }
    let start = bytes.get(..512).unwrap_or(bytes);
    let text = String::from_utf8_lossy(start);
    let lower = text.trim_start().to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return other("an HTML page, perhaps a login page", CHECK_REFERENCE);
    }
    if is_webassembly_text(bytes) {
        return other("WebAssembly text", ASSEMBLE);
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    if start.iter().all(is_text) {
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(60)
            .collect();
        return other(&format!("text that starts with `{line}`"), CHECK_REFERENCE);
    }
    let beginning = hex(&start[..start.len().min(8)]);
    other(
        &format!("something that starts with {beginning}"),
        CHECK_REFERENCE,
    )
}

/// Whether the bytes are a module or a component in the text format. Comments may come first.
fn is_webassembly_text(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        rest = rest.trim_ascii_start();
        let comment = if rest.starts_with(b";;") {
            rest.iter().position(|byte| *byte == b'\n')
        } else if rest.starts_with(b"(;") {
            rest.windows(2)
                .position(|end| end == b";)")
                .map(|at| at + 1)
        } else {
            break;
        };
        match comment {
            Some(end) => rest = &rest[end + 1..],
            None => return false,
        }
    }
    let starts = |keyword: &&[u8]| rest.starts_with(keyword);
    [&b"(module"[..], b"(component"].iter().any(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_webassembly_are_described() {
        let cases: [(&[u8], &str); 17] = [
            (b"", "an empty file"),
            (b"<!DOCTYPE html><html><body>Sign in", "HTML page"),
            (b"  <html>", "HTML page"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x7fELF\x02\x01\x01\0", "native (ELF)"),
            (b"\x7fELF\x02\x01\x01\xc8\x01", "(`.cwasm`)"),
            (b"!<arch>\ncrate.o/", "a static library"),
            (b"#!/usr/bin/env node\n", "a script"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:aa",
                "Git LFS",
            ),
            (
                b"{\"errors\":[]}",
                "text that starts with `{\"errors\":[]}`",
            ),
            (b"(module)", "WebAssembly text"),
            (
                b";; a comment\n (; another\n one ;)\n(component)",
                "WebAssembly text",
            ),
            (b";; only a comment", "text that starts with `;; only"),
            (b"(; not closed", "text that starts with `(; not"),
            (b"\xff\xfe\0\0", "starts with fffe0000"),
            (b"\0asm\x02\0\0\0", "unknown version (02000000)"),
            (b"\0asm\x0a\0\x01\0", "pre-release format 10"),
        ];
        for (bytes, expected) in cases {
            let error = is_component(bytes).unwrap_err();
            assert!(matches!(error, NotWasm::Other { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(matches!(
            is_component(b"\0asm\x01"),
            Err(NotWasm::Damaged(_))
        ));
    }
}
