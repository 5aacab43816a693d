//! Reads tar archives, which may be hostile.

use std::io::{self, Read};

use untrusted_tar::{LimitExceeded, TarReader, is_header, plain_path, resolve_link};

use super::budget::{Budget, MAX_ENTRIES, MAX_NAMES, damaged};
use super::{Content, decompress};
use crate::{Error, ErrorKind};

/// Whether the bytes are the beginning of a tar archive. The magic of POSIX and GNU archives is at
/// offset 257. Older archives have only the checksum of their first header.
pub(super) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262).is_some_and(|magic| magic == b"ustar")
        || bytes.first_chunk().is_some_and(is_header)
}

/// Type of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A symbolic or hard link to this path in the archive. The path is plain.
    Link(String),
    /// A directory, a link out of the archive, or a type that modules do not use.
    Other,
}

/// Calls `each` with every entry of a layer: its plain path, its type, and its content. An entry
/// with an invalid path is skipped, but uses the budget.
pub(super) fn entries(
    layer: &Content,
    budget: &mut Budget,
    mut each: impl FnMut(&str, Kind, &mut dyn Read) -> Result<(), Error>,
) -> Result<(), Error> {
    let reader = decompress::plain(layer).map_err(|error| damaged(&error))?;
    let mut names = budget.names;
    TarReader::new(reader, &mut *budget).for_each(|entry| {
        let path = entry.path().unwrap_or_default();
        if path.is_empty() {
            return Ok(());
        }
        let kind = kind(entry, &path);
        let target = match &kind {
            Kind::Link(target) => target.len(),
            Kind::File | Kind::Other => 0,
        };
        names = names
            .checked_sub(path.len() + target)
            .ok_or_else(too_many_names)?;
        each(&path, kind, entry)
    })?;
    budget.names = names;
    Ok(())
}

fn too_many_names() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the paths in the archive have more than {MAX_NAMES} bytes"),
    )
}

impl untrusted_tar::Budget for Budget {
    fn take_entries(&mut self, count: u64) -> Result<(), LimitExceeded> {
        let limit = MAX_ENTRIES;
        let left = self.entries.checked_sub(count);
        self.entries = left.ok_or(LimitExceeded { limit })?;
        Ok(())
    }

    fn take_archive_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        let limit = self.total;
        let left = self.bytes.checked_sub(count);
        self.bytes = left.ok_or(LimitExceeded { limit })?;
        Ok(())
    }

    /// The content has a counter of its own: it includes the holes of sparse files, which are not
    /// bytes of the archive.
    fn take_content_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        let limit = self.total;
        let left = self.content.checked_sub(count);
        self.content = left.ok_or(LimitExceeded { limit })?;
        Ok(())
    }
}

impl From<untrusted_tar::Error> for Error {
    fn from(error: untrusted_tar::Error) -> Self {
        use untrusted_tar::ErrorKind as Reason;

        let message = error.to_string();
        match error.kind() {
            Reason::Unsupported => {
                let converted = Self::new(ErrorKind::Unsupported, message);
                match error.hint() {
                    Some(hint) => converted.with_hint(hint),
                    None => converted,
                }
            }
            Reason::TooManyEntries => Self::new(ErrorKind::TooLarge, message),
            Reason::TooManyBytes => Self::new(ErrorKind::Protocol, message).with_hint(
                "ask the operator to raise `sources.maxModuleSize`; an archive may contain four times as much",
            ),
            _ => damaged(&io::Error::from(error)),
        }
    }
}

fn kind(entry: &untrusted_tar::Entry<'_>, path: &str) -> Kind {
    match entry.kind() {
        untrusted_tar::Kind::File => Kind::File,
        untrusted_tar::Kind::HardLink => link(entry.link(), ""),
        untrusted_tar::Kind::Symlink => link(entry.link(), parent(path)),
        untrusted_tar::Kind::Directory | untrusted_tar::Kind::Other => Kind::Other,
    }
}

/// Resolves the target of a link. A relative target is relative to `directory`.
fn link(target: Option<&[u8]>, directory: &str) -> Kind {
    let target = target.and_then(|target| std::str::from_utf8(target).ok());
    let resolved = target.and_then(|target| resolve_link(directory, target));
    resolved.map_or(Kind::Other, Kind::Link)
}

/// The plain path of an entry: relative to the root of the archive, without `.` segments. `None`
/// for an invalid path, a path with `..`, and the root itself.
pub(super) fn plain(path: &[u8]) -> Option<String> {
    plain_path(path).ok().filter(|path| !path.is_empty())
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use tar::EntryType;

    use super::super::tests::{LIMITS, gzip};
    use super::*;

    /// The header of the entry announces a name of 2 MiB.
    #[test]
    fn a_long_name_is_refused_before_it_is_read() {
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
                error.to_string().contains("the header of an entry"),
                "{error}"
            );
        }
    }

    /// The header of the entry announces 8 GiB of holes.
    #[test]
    fn the_holes_of_sparse_files_count() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(1 << 33);
        gnu.sparse[0].offset = *b"100000000000";
        gnu.sparse[0].numbytes = *b"00000000000\0";
        header.set_cksum();
        let archive = [header.as_bytes().as_slice(), &[0; 1024]].concat();
        let content = super::super::Content::from(bytes::Bytes::from(archive));
        let error = entries(&content, &mut Budget::new(LIMITS), |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(
            error.to_string().contains("expands to more than"),
            "{error}"
        );
    }

    #[test]
    fn unknown_extensions_are_unsupported() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::new(b'M'));
        header.set_size(0);
        header.set_cksum();
        let content = bytes::Bytes::copy_from_slice(header.as_bytes()).into();
        let error = entries(&content, &mut Budget::new(LIMITS), |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("the type `M`"), "{error}");
    }

    #[test]
    fn paths_are_plain_or_refused() {
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
