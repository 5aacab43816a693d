//! Names of entries, and targets of links.

use std::path::{Component, Path};

use crate::error::{Error, ErrorKind};

/// Longest path of an entry, in bytes: `PATH_MAX` of Linux.
const LONGEST_PATH: usize = 4096;

/// The path of an entry, relative to the root of the archive: without a leading slash, without `.`
/// and without empty segments. The root itself is the empty path.
///
/// # Errors
///
/// [`ErrorKind::InvalidPath`] for a path with `..`, which leads out of the archive; and for a path
/// that is not UTF-8, has a NUL byte or is longer than 4096 bytes.
pub fn plain_path(path: &[u8]) -> Result<String, Error> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidPath, message);
    if path.len() > LONGEST_PATH {
        let message = format!("the name of an entry is longer than {LONGEST_PATH} bytes");
        return Err(invalid(message));
    }
    let path = std::str::from_utf8(path)
        .map_err(|_| invalid("the name of an entry is not UTF-8".to_owned()))?;
    if path.contains('\0') {
        return Err(invalid("the name of an entry has a NUL byte".to_owned()));
    }
    if path.split('/').any(|segment| segment == "..") {
        let message = format!("the name of an entry leads out of the archive: `{path}`");
        return Err(invalid(message));
    }
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !matches!(*segment, "" | "."))
        .collect();
    Ok(segments.join("/"))
}

/// Resolves the target of a link lexically: `directory` is the plain path of the directory that the
/// target is relative to. An absolute target starts at the root of the archive. `None` if the
/// target leads out of the archive.
pub fn resolve_link(directory: &str, target: &str) -> Option<String> {
    if target.contains('\0') {
        return None;
    }
    let start = if target.starts_with('/') {
        ""
    } else {
        directory
    };
    let mut segments: Vec<&str> = start
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            _ => segments.push(segment),
        }
    }
    Some(segments.join("/"))
}

/// Whether a symbolic link with the path `name` leads out of the directory that `name` is relative
/// to, or to that directory itself. An absolute target leads out. Links inside the path of
/// the target are not followed.
pub fn leads_out(name: impl AsRef<Path>, target: &Path) -> bool {
    let mut depth = name.as_ref().components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return true,
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_relative_to_the_root() {
        for (path, expected) in [
            ("./a//b/", "a/b"),
            ("/app.wasm", "app.wasm"),
            ("./", ""),
            ("", ""),
        ] {
            assert_eq!(plain_path(path.as_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn invalid_paths_are_refused() {
        let long = [b'a'; LONGEST_PATH + 1];
        for path in [
            &b"../x"[..],
            b"a/../../x",
            b"a/..",
            b"\xff",
            b"a\0b",
            &long[..],
        ] {
            let error = plain_path(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidPath, "{path:?}");
        }
    }

    #[test]
    fn links_are_resolved_within_the_archive() {
        for (directory, target, expected) in [
            ("usr/bin", "../lib/x.wasm", Some("usr/lib/x.wasm")),
            ("usr/bin", "/lib/x.wasm", Some("lib/x.wasm")),
            ("usr/bin", "../..", Some("")),
            ("usr/bin", "../../../etc/passwd", None),
            ("", "a\0b", None),
        ] {
            assert_eq!(
                resolve_link(directory, target).as_deref(),
                expected,
                "{target}"
            );
        }
    }

    #[test]
    fn links_out_of_the_archive_are_detected() {
        for (name, target, expected) in [
            ("a/link", "../b", false),
            ("link", "b/../c", false),
            ("a/link", "..", true),
            ("a/link", "../..", true),
            ("link", "/b", true),
            ("link", ".", true),
        ] {
            assert_eq!(leads_out(name, Path::new(target)), expected, "{target}");
        }
    }
}
