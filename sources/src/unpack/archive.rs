//! Reading tar archives, which are not trusted in anything.

use std::io::Read;

use tar::{Archive, EntryType};

use super::{Budget, Content, MAX_ENTRIES, MAX_NAMES, bomb, damaged, decompress};
use crate::{Error, ErrorKind};

const LONGEST_NAME: usize = 4096;

/// Whether it is a tar archive: the magic of POSIX and GNU stands at 257.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262).is_some_and(|magic| magic == b"ustar")
}

/// What an entry of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A link to a path in the archive's own root, however it is written.
    Link(String),
    /// A directory, or what a module has no use for.
    Other,
}

/// Calls `each` with every entry of a layer: its path, plain and without a leading slash, what it is, and its content.
pub(super) fn entries(
    layer: &Content,
    budget: &mut Budget,
    mut each: impl FnMut(&str, Kind, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let reader = decompress::plain(layer).map_err(|error| damaged(&error))?;
    let mut archive = Archive::new(reader.take(budget.bytes));
    {
        let entries = archive.entries().map_err(|error| damaged(&error))?;
        for entry in entries {
            // The limit looks like an end in the middle.
            let mut entry = entry.map_err(|error| damaged(&error))?;
            let Some(left) = budget.entries.checked_sub(1) else {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the archive has more than {MAX_ENTRIES} entries"),
                ));
            };
            budget.entries = left;
            let Some(path) = plain(&entry.path_bytes()) else { continue };
            let kind = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
                EntryType::Link => link(entry.link_name_bytes().as_deref(), ""),
                EntryType::Symlink => link(entry.link_name_bytes().as_deref(), parent(&path)),
                _ => Kind::Other,
            };
            let target = if let Kind::Link(target) = &kind { target.len() } else { 0 };
            budget.names = budget.names.checked_sub(path.len() + target).ok_or_else(|| {
                Error::new(ErrorKind::TooLarge, format!("the paths in the archive have more than {MAX_NAMES} bytes"))
            })?;
            each(&path, kind, &mut entry)?;
        }
    }
    budget.bytes = archive.into_inner().limit();
    if budget.bytes == 0 { Err(bomb(budget.whole)) } else { Ok(()) }
}

fn link(target: Option<&[u8]>, from: &str) -> Kind {
    let resolved = target.and_then(|target| {
        let target = std::str::from_utf8(target).ok()?;
        resolve(if target.starts_with('/') { "" } else { from }, target)
    });
    resolved.map_or(Kind::Other, Kind::Link)
}

/// A path without `.` and `..`, which may not leave the root. `None` for what cannot be one.
pub(super) fn plain(path: &[u8]) -> Option<String> {
    if path.len() > LONGEST_NAME {
        return None;
    }
    let path = std::str::from_utf8(path).ok()?;
    // An entry that climbs is not what it seems to be.
    if path.split('/').any(|segment| segment == "..") {
        return None;
    }
    resolve("", path).filter(|path| !path.is_empty())
}

fn resolve(from: &str, path: &str) -> Option<String> {
    let mut segments: Vec<&str> = from.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            _ => segments.push(segment),
        }
    }
    (!path.contains('\0')).then(|| segments.join("/"))
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_or_refused() {
        assert_eq!(plain(b"./a//b/").as_deref(), Some("a/b"));
        assert_eq!(plain(b"/app.wasm").as_deref(), Some("app.wasm"));
        for path in [&b"../x"[..], b"a/../../x", b"", b"./", b"\xff", b"a\0b", &[b'a'; 5000]] {
            assert_eq!(plain(path), None, "{path:?}");
        }
        assert_eq!(link(Some(b"../lib/x.wasm"), "usr/bin"), Kind::Link("usr/lib/x.wasm".to_owned()));
        assert_eq!(link(Some(b"/lib/x.wasm"), "usr/bin"), Kind::Link("lib/x.wasm".to_owned()));
        assert_eq!(link(Some(b"../../../etc/passwd"), "usr/bin"), Kind::Other);
    }
}
