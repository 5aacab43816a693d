//! Unpacks archives that may be hostile, as Argo's executor does (`workflow/executor/executor.go`,
//! `untar` and `unzip`).
//!
//! An archive is unpacked to a new directory beside the artifact's path. If the archive has one
//! entry at its root, the entry becomes the artifact; otherwise the directory does. A path or a
//! link that leads out of the archive is an error. Entries, bytes and the expansion ratio are
//! limited.
//!
//! Where Argo loses content, this module keeps it: hard links, and sparse files of old GNU tar.

use std::cell::RefCell;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use untrusted_tar::{
    Budget, ByteCount, ContentReader, CountingReader, Error, ExpansionLimit, GzipReader,
    LimitExceeded, Meter, TarReader, Trailer, is_header, plain_path,
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
/// The place that an archive is unpacked to.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Path in the directory.
    pub(crate) path: String,
    /// Absolute path at which the step sees the artifact.
    pub(crate) seen_at: String,
}

/// Size of the buffer for compressed bytes.
const BUFFER: usize = 64 << 10;
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
        && GzipReader::new(head).read_exact(&mut block).is_ok()
        && is_header(&block)
}

/// Unpacks a tar archive, gzipped or not.
pub(crate) fn untar(
    root: &Dir,
    place: &Place,
    archive: impl Read,
    share: &Share,
) -> io::Result<()> {
    let limit = share.bounds().bytes;
    let mut packed = CountingReader::new(archive, limit);
    let expansion = expansion(packed.count());
    let mut magic = Vec::new();
    packed
        .by_ref()
        .take(GZIP.len() as u64)
        .read_to_end(&mut magic)?;
    let is_gzip = magic == GZIP;
    let packed = BufReader::with_capacity(BUFFER, io::Cursor::new(magic).chain(packed));
    let archive: Box<dyn Read + '_> = match is_gzip {
        true => Box::new(GzipReader::new(packed)),
        false => Box::new(packed),
    };
    unpack(root, place, share, |target| {
        TarReader::new(archive, share)
            .expansion(expansion)
            // The checksum of gzip is at the end.
            .trailer(Trailer::Drain(limit))
            .for_each(|entry| target.tar_entry(entry))
    })
}

/// Unpacks a zip archive.
pub(crate) fn unzip(
    root: &Dir,
    place: &Place,
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
    unpack(root, place, share, |target| {
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

/// Unpacks to a new directory beside the path of `place`, and then moves the artifact to this path.
fn unpack(
    root: &Dir,
    place: &Place,
    share: &Share,
    write: impl FnOnce(&mut Target<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let path = Path::new(&place.path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.unpacking"));
    root.create_dir_all(&temporary)?;
    let directory = root.open_dir(&temporary)?;
    let mut target = Target::new(&directory, share);
    let unpacked = write(&mut target)
        .and_then(|()| only_entry(&directory))
        .and_then(|only| {
            target.finish_links(&place.seen_at, only.as_deref())?;
            move_artifact(root, only.as_deref(), &temporary, path)
        });
    if unpacked.is_err() {
        let _ = root.remove_dir_all(&temporary);
    }
    unpacked
}

/// The name of the only entry of `directory`. `None` if there are more entries, or none.
fn only_entry(directory: &Dir) -> io::Result<Option<PathBuf>> {
    let mut entries = directory.entries()?;
    let first = entries.next().transpose()?;
    Ok(match (first, entries.next()) {
        (Some(only), None) => Some(only.file_name().into()),
        (_, _) => None,
    })
}

/// Moves the only entry of the temporary directory, or the directory itself, to `path`.
fn move_artifact(root: &Dir, only: Option<&Path>, temporary: &Path, path: &Path) -> io::Result<()> {
    let Some(only) = only.map(|name| temporary.join(name)) else {
        return root.rename(temporary, root, path);
    };
    if root.symlink_metadata(&only)?.is_symlink() {
        return Err(invalid("the archive contains only a link".to_owned()));
    }
    root.rename(only, root, path)?;
    root.remove_dir(temporary)
}

fn damaged(error: ZipError) -> io::Error {
    match error {
        ZipError::Io(error) => error,
        error => invalid(error.to_string()),
    }
}
