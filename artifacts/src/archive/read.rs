//! Unpacks archives that may be hostile, as Argo's executor does (`workflow/executor/executor.go`,
//! `untar` and `unzip`).
//!
//! An archive is unpacked to a new directory beside the artifact's path. If the archive has one
//! entry at its root, the entry becomes the artifact; otherwise the directory does. A path or a
//! link that leads out of the archive is an error. Entries, bytes and the expansion ratio are
//! limited.

use std::cell::RefCell;
use std::io::{self, Read, Seek};
use std::path::Path;

use cap_std::fs::Dir;
use flate2::read::MultiGzDecoder;
use untrusted_tar::{
    Budget, ByteCount, ContentReader, CountingReader, Error, ExpansionLimit, LimitExceeded, Meter,
    Sparse, TarReader, Trailer, is_header, plain_path,
};
use zip::ZipArchive;
use zip::result::ZipError;

use super::invalid;
use super::target::Target;
use crate::quota::Share;

/// Bytes that may come out of an archive at any expansion ratio.
const FREE_BYTES: u64 = 128 << 20;
/// Highest expansion ratio beyond [`FREE_BYTES`].
const MAX_RATIO: u64 = 250;
/// Magic number of gzip (RFC 1952, 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

impl Budget for &Share {
    fn take_entries(&mut self, count: u64) -> Result<(), LimitExceeded> {
        Share::take_entries(self, count).map_err(|error| LimitExceeded {
            limit: error.limit(),
        })
    }

    /// Headers and padding take no space on the disk. The expansion ratio limits them.
    fn take_archive_bytes(&mut self, _: u64) -> Result<(), LimitExceeded> {
        Ok(())
    }

    fn take_content_bytes(&mut self, count: u64) -> Result<(), LimitExceeded> {
        Share::take_bytes(self, count).map_err(|error| LimitExceeded {
            limit: error.limit(),
        })
    }
}

fn expansion(packed: ByteCount) -> ExpansionLimit {
    ExpansionLimit {
        free_bytes: FREE_BYTES,
        max_ratio: MAX_RATIO,
        packed,
    }
}

/// Whether the bytes are the beginning of a gzipped tar archive. Argo checks the first header too.
pub(crate) fn is_tar_gz(head: &[u8]) -> bool {
    let mut block = [0; 512];
    head.starts_with(&GZIP)
        && MultiGzDecoder::new(head).read_exact(&mut block).is_ok()
        && is_header(&block)
}

/// Unpacks a tar archive, gzipped or not, to `path`.
pub(crate) fn untar(root: &Dir, path: &str, archive: impl Read, share: &Share) -> io::Result<()> {
    let limit = share.bounds().bytes;
    let mut packed = CountingReader::new(archive, limit);
    let expansion = expansion(packed.count());
    let mut magic = Vec::new();
    packed
        .by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut magic)?;
    let is_gzip = magic == GZIP;
    let packed = io::Cursor::new(magic).chain(packed);
    let archive: Box<dyn Read + '_> = match is_gzip {
        true => Box::new(MultiGzDecoder::new(packed)),
        false => Box::new(packed),
    };
    unpack(root, path, share, |target| {
        TarReader::new(archive, share)
            .expansion(expansion)
            .sparse(Sparse::Expand)
            // The checksum of gzip is at the end.
            .trailer(Trailer::Drain(limit))
            .for_each(|entry| target.tar_entry(entry))
    })
}

/// Unpacks a zip archive to `path`.
pub(crate) fn unzip(
    root: &Dir,
    path: &str,
    mut archive: impl Read + Seek,
    share: &Share,
) -> io::Result<()> {
    let ZipSize { bytes, entries } = measure(&mut archive)?;
    let limit = share.bounds().entries;
    if entries > limit {
        return Err(Error::too_many_entries(LimitExceeded { limit }).into());
    }
    archive.rewind()?;
    let meter = RefCell::new(Meter::new(share, Some(expansion(ByteCount::of(bytes)))));
    unpack(root, path, share, |target| {
        let mut archive = ZipArchive::new(archive).map_err(damaged)?;
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(damaged)?;
            meter.borrow_mut().count_entries(1)?;
            let name = plain_path(entry.name().map_err(damaged)?.as_bytes())?;
            if entry.is_dir() {
                target.directory(&name)?;
            } else {
                let mode = entry.unix_mode();
                target.file(&name, &mut ContentReader::new(entry, &meter), mode)?;
            }
        }
        Ok(())
    })
}

/// Size of a zip archive, as far as it shows without opening the archive.
struct ZipSize {
    bytes: u64,
    /// Upper bound of the number of entries.
    entries: u64,
}

/// Reads a zip archive to its end, and counts the signatures of directory entries. The `zip` crate
/// reads the whole directory into memory, and an archive can have several directories.
fn measure(archive: &mut (impl Read + Seek)) -> io::Result<ZipSize> {
    const SIGNATURE: &[u8; 4] = b"PK\x01\x02";
    archive.rewind()?;
    let mut size = ZipSize {
        bytes: 0,
        entries: 0,
    };
    let mut buffer = vec![0; 256 << 10];
    let mut kept = 0;
    loop {
        let count = archive.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok(size);
        }
        size.bytes += count as u64;
        let filled = kept + count;
        size.entries += buffer[..filled]
            .windows(SIGNATURE.len())
            .filter(|window| window == SIGNATURE)
            .count() as u64;
        // The last bytes may be the beginning of a signature.
        kept = filled.min(SIGNATURE.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// Unpacks to a new directory beside `path`, and then moves the artifact to `path`.
fn unpack(
    root: &Dir,
    path: &str,
    share: &Share,
    write: impl FnOnce(&mut Target<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let path = Path::new(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.unpacking"));
    root.create_dir_all(&temporary)?;
    let directory = root.open_dir(&temporary)?;
    let mut target = Target::new(&directory, share);
    let unpacked = write(&mut target)
        .and_then(|()| target.check_links())
        .and_then(|()| move_artifact(root, &directory, &temporary, path));
    if unpacked.is_err() {
        let _ = root.remove_dir_all(&temporary);
    }
    unpacked
}

/// Moves the only entry of `directory`, or the directory itself, to `path`.
fn move_artifact(root: &Dir, directory: &Dir, temporary: &Path, path: &Path) -> io::Result<()> {
    let mut entries = directory.entries()?;
    let first = entries.next().transpose()?;
    match (first, entries.next()) {
        (Some(only), None) if only.file_type()?.is_symlink() => {
            Err(invalid("the archive contains only a link".to_owned()))
        }
        (Some(only), None) => {
            root.rename(temporary.join(only.file_name()), root, path)?;
            root.remove_dir(temporary)
        }
        (_, _) => root.rename(temporary, root, path),
    }
}

fn damaged(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        error => invalid(error.to_string()),
    }
}
