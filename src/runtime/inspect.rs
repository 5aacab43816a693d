//! Reads the imports and exports of a WebAssembly binary without compiling it.

use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};

use super::kind::Kind;

/// Imports and exports of a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// True for a component, false for a core module.
    pub component: bool,
    /// Imports: `module name` for a core module, names of interfaces for a component.
    pub imports: Vec<String>,
    /// Names of the exports.
    pub exports: Vec<String>,
}

/// The reason why bytes are not a WebAssembly binary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWasm {
    /// The bytes have another format, which is described here.
    #[error("this is not WebAssembly but {0}")]
    Other(String),
    /// The bytes begin like WebAssembly, and then end too early or cannot be parsed.
    #[error("the module is damaged: {0}")]
    Damaged(String),
}

/// Whether the bytes are a component. Reads the eight bytes with which every WebAssembly binary
/// starts (<https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md>).
pub(super) fn is_component(bytes: &[u8]) -> Result<bool, NotWasm> {
    match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(false),
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(true),
        [0, b'a', b's', b'm', rest @ ..] if rest.len() >= 4 => Err(NotWasm::Other(format!(
            "a WebAssembly binary of an unknown version ({})",
            hex(&rest[..4])
        ))),
        [0, b'a', b's', b'm', ..] => Err(NotWasm::Damaged(
            "it ends within its first eight bytes".to_owned(),
        )),
        _ => Err(NotWasm::Other(describe(bytes))),
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
fn describe(bytes: &[u8]) -> String {
    let start = bytes.get(..512).unwrap_or(bytes);
    let text = String::from_utf8_lossy(start);
    let lower = text.trim_start().to_ascii_lowercase();
    let what = match start {
        [] => "an empty file",
        [0x1f, 0x8b, ..] => "gzip-compressed data",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd-compressed data",
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x7f, b'E', b'L', b'F', ..] => "a native (ELF) program",
        [0, b'w', b'e', b'b', b'c', ..] => "a WEBC package",
        _ if lower.starts_with("<!doctype html") || lower.starts_with("<html") => {
            "an HTML page, perhaps a login page"
        }
        _ if lower.starts_with("(module") || lower.starts_with("(component") => {
            "WebAssembly text; compile it with `wasm-tools parse`"
        }
        _ if start
            .iter()
            .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e)) =>
        {
            let line: String = text
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(60)
                .collect();
            return format!("text that starts with `{line}`");
        }
        _ => {
            return format!(
                "something that starts with {}",
                hex(&start[..start.len().min(8)])
            );
        }
    };
    what.to_owned()
}

impl Inspection {
    /// How the module is run. `None` if it has no entry point. A component with both kinds of entry
    /// point is run as a step.
    pub fn kind(&self) -> Option<Kind> {
        let exports = |prefix: &str| self.exports.iter().any(|name| name.starts_with(prefix));
        let export = |name: &str| self.exports.iter().any(|export| export == name);
        if !self.component {
            return export("_start").then_some(Kind::CoreCommand);
        }
        if export("run") {
            Some(Kind::Step)
        } else if exports("wasi:cli/run@0.3.") {
            Some(Kind::CommandP3)
        } else if exports("wasi:cli/run@0.2.") {
            Some(Kind::Command)
        } else {
            None
        }
    }
}

/// Reads the imports and exports of a core module or a component.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, NotWasm> {
    let component = is_component(bytes)?;
    let damaged = |error: wasmparser::BinaryReaderError| NotWasm::Damaged(error.to_string());
    let mut inspection = Inspection {
        component,
        imports: Vec::new(),
        exports: Vec::new(),
    };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            // The imports of modules and components inside a component are not imports of the
            // component.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) if depth > 0 => depth -= 1,
            Payload::ImportSection(imports) if depth == 0 => {
                for import in imports.into_imports() {
                    let import = import.map_err(damaged)?;
                    inspection
                        .imports
                        .push(format!("{} {}", import.module, import.name));
                }
            }
            Payload::ExportSection(exports) if depth == 0 => {
                for export in exports {
                    inspection
                        .exports
                        .push(export.map_err(damaged)?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(damaged)?;
                    // An imported type needs nothing from the host.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        inspection.imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    inspection
                        .exports
                        .push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } if !component => {
                return Err(NotWasm::Damaged("a module contains a component".to_owned()));
            }
            _ => {}
        }
    }
    Ok(inspection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_webassembly_are_described() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "an empty file"),
            (b"<!DOCTYPE html><html><body>Sign in", "HTML page"),
            (b"  <html>", "HTML page"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x7fELF\x02", "ELF"),
            (
                b"{\"errors\":[]}",
                "text that starts with `{\"errors\":[]}`",
            ),
            (b"(module)", "WebAssembly text"),
            (b"\xff\xfe\0\0", "starts with fffe0000"),
        ];
        for (bytes, expected) in cases {
            let message = is_component(bytes).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert!(matches!(
            is_component(b"\0asm\x01"),
            Err(NotWasm::Damaged(_))
        ));
        assert!(matches!(
            is_component(b"\0asm\x02\0\0\0"),
            Err(NotWasm::Other(_))
        ));
    }

    #[test]
    fn an_empty_module_is_read_and_a_truncated_one_is_refused() {
        let empty = inspect(b"\0asm\x01\0\0\0").unwrap();
        assert_eq!(
            empty,
            Inspection {
                component: false,
                imports: vec![],
                exports: vec![]
            }
        );
        assert!(matches!(
            inspect(b"\0asm\x01\0\0\0\x01\x05"),
            Err(NotWasm::Damaged(_))
        ));
    }
}
