//! Reading tar archives, which are not trusted in anything.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use tar::{Archive, EntryType};

use super::{Budget, Content, MAX_ENTRIES, MAX_NAMES, bomb, damaged, decompress};
use crate::{Error, ErrorKind};

const LONGEST_NAME: usize = 4096;
/// What describes one entry: its header, and the entries before it with a long name and the like, which are read whole.
const MAX_DESCRIPTION: u64 = 1 << 20;

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
    let allowance = Rc::new(Cell::new(MAX_DESCRIPTION));
    let mut archive = Archive::new(Metered {
        inner: reader.take(budget.bytes),
        allowance: Rc::clone(&allowance),
    });
    for entry in archive.entries().map_err(|error| damaged(&error))? {
        // The limit looks like an end in the middle.
        let mut entry = entry.map_err(|error| damaged(&error))?;
        allowance.set(u64::MAX);
        // The library makes up the holes of such a file, of any size: nothing below counts them.
        if entry.header().entry_type() == EntryType::GNUSparse {
            return Err(
                Error::new(ErrorKind::Unsupported, "the archive holds a sparse file")
                    .hint("pack it without, for example with GNU tar without --sparse"),
            );
        }
        let Some(left) = budget.entries.checked_sub(1) else {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the archive has more than {MAX_ENTRIES} entries"),
            ));
        };
        budget.entries = left;
        if let Some(path) = plain(&entry.path_bytes()) {
            let kind = kind(&entry, &path);
            let target = if let Kind::Link(target) = &kind {
                target.len()
            } else {
                0
            };
            budget.names = budget
                .names
                .checked_sub(path.len() + target)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::TooLarge,
                        format!("the paths in the archive have more than {MAX_NAMES} bytes"),
                    )
                })?;
            each(&path, kind, &mut entry)?;
        }
        io::copy(&mut entry, &mut io::sink()).map_err(|error| damaged(&error))?;
        allowance.set(MAX_DESCRIPTION);
    }
    budget.bytes = archive.into_inner().inner.limit();
    if budget.bytes == 0 {
        Err(bomb(budget.whole))
    } else {
        Ok(())
    }
}

/// A reader that gives no more than it is allowed to: the library reads descriptions into memory, however long they say they are.
struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.allowance.get())
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!(
                "what describes an entry has more than {MAX_DESCRIPTION} bytes"
            )));
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.allowance.update(|allowance| allowance - count as u64);
        Ok(count)
    }
}

fn kind<R: Read>(entry: &tar::Entry<'_, R>, path: &str) -> Kind {
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Link => link(entry.link_name_bytes().as_deref(), ""),
        EntryType::Symlink => link(entry.link_name_bytes().as_deref(), parent(path)),
        _ => Kind::Other,
    }
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
    let mut segments: Vec<&str> = from
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
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
    use super::super::tests::{LIMITS, gzip};
    use super::*;

    /// Two megabytes that say they are a name: as large as whoever packs it likes.
    #[test]
    fn a_long_name_takes_no_memory() {
        for kind in [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(2 << 20);
            header.set_cksum();
            let archive = gzip(
                &[
                    header.as_bytes().as_slice(),
                    &vec![b'n'; 2 << 20],
                    &[0; 1024],
                ]
                .concat(),
            );
            let error =
                entries(&archive.into(), &mut Budget::new(LIMITS), |_, _, _| Ok(())).unwrap_err();
            assert!(
                error.to_string().contains("what describes an entry"),
                "{error}"
            );
        }
    }

    /// 64 GiB of holes in a header.
    #[test]
    fn holes_hold_up_nobody() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 36);
        gnu.sparse[0].offset = *b"1000000000000\0"[..12].first_chunk().unwrap();
        header.set_cksum();
        let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        let content = super::super::Content::from(bytes::Bytes::from(archive));
        let error = entries(&content, &mut Budget::new(LIMITS), |_, _, _| Ok(())).unwrap_err();
        assert!(error.to_string().contains("sparse"), "{error}");
    }

    #[test]
    fn paths_are_made_plain_or_refused() {
        assert_eq!(plain(b"./a//b/").as_deref(), Some("a/b"));
        assert_eq!(plain(b"/app.wasm").as_deref(), Some("app.wasm"));
        for path in [
            &b"../x"[..],
            b"a/../../x",
            b"",
            b"./",
            b"\xff",
            b"a\0b",
            &[b'a'; 5000],
        ] {
            assert_eq!(plain(path), None, "{path:?}");
        }
        assert_eq!(
            link(Some(b"../lib/x.wasm"), "usr/bin"),
            Kind::Link("usr/lib/x.wasm".to_owned())
        );
        assert_eq!(
            link(Some(b"/lib/x.wasm"), "usr/bin"),
            Kind::Link("lib/x.wasm".to_owned())
        );
        assert_eq!(link(Some(b"../../../etc/passwd"), "usr/bin"), Kind::Other);
    }
}
