//! Unpacking what came, as Argo's executor does it (`workflow/executor/executor.go`, `untar` and `unzip`): into a directory of its own, whose only
//! entry, or which itself, becomes the artifact. Archives are not trusted: what would lead out is an error, and everything has bounds.

use std::cell::Cell;
use std::io::{self, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use cap_std::fs::{Dir, OpenOptions, Permissions, PermissionsExt};
use flate2::read::MultiGzDecoder;
use tar::EntryType;
use zip::ZipArchive;

use super::leads_out;
use crate::mkdir::make_directories;
use crate::quota::Share;

/// So much may come out of however little.
const FREE_OF_RATIO: u64 = 128 << 20;
/// How many times as large as the archive what comes out of it may be, beyond that.
const MAX_RATIO: u64 = 250;
/// What describes one entry of a tar archive: its header, and entries before it with a long name and the like, which are read whole.
const MAX_DESCRIPTION: u64 = 1 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Whether the bytes are the beginning of a tar archive in gzip. Argo looks at the first header; so does this.
pub(crate) fn is_tar_gz(head: &[u8]) -> bool {
    let mut block = [0; 512];
    head.starts_with(&GZIP)
        && MultiGzDecoder::new(head).read_exact(&mut block).is_ok()
        && is_header(&block)
}

/// Every header has a checksum, which counts its own field as spaces.
fn is_header(block: &[u8; 512]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let actual = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    tar::Header::from_byte_slice(block)
        .cksum()
        .is_ok_and(|said| said == actual)
}

/// Unpacks a tar archive, in gzip or plain, to `path`.
pub(crate) fn untar(root: &Dir, path: &str, archive: impl Read, share: &Share) -> io::Result<()> {
    let came = Rc::new(Cell::new(0));
    let limit = share.bounds().bytes;
    let mut archive = Counted {
        inner: archive,
        count: Rc::clone(&came),
        limit,
    };
    let mut head = Vec::new();
    (&mut archive)
        .take(GZIP.len() as u64)
        .read_to_end(&mut head)?;
    let zipped = head == GZIP;
    let whole = io::Cursor::new(head).chain(archive);
    unpack(root, path, share, came, |target| match zipped {
        true => untar_into(target, MultiGzDecoder::new(whole), limit),
        false => untar_into(target, whole, limit),
    })
}

/// Unpacks a zip archive to `path`.
pub(crate) fn unzip(
    root: &Dir,
    path: &str,
    mut archive: impl Read + Seek,
    share: &Share,
) -> io::Result<()> {
    let (size, listed) = look_through(&mut archive)?;
    if listed > share.bounds().entries {
        return Err(too_many(share.bounds().entries));
    }
    archive.rewind()?;
    unpack(root, path, share, Rc::new(Cell::new(size)), |target| {
        let mut archive = ZipArchive::new(archive).map_err(damaged)?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(damaged)?;
            let name = plain(entry.name().map_err(damaged)?.as_bytes())?;
            if entry.is_dir() {
                target.directory(&name)?;
            } else {
                let mode = entry.unix_mode();
                target.file(&name, &mut entry, mode)?;
            }
        }
        Ok(())
    })
}

/// The size of a zip archive, and how often it has what an entry of its directory begins with: the library keeps all of that in memory, and believes
/// any of several directories.
fn look_through(archive: &mut (impl Read + Seek)) -> io::Result<(u64, u64)> {
    const ENTRY: &[u8; 4] = b"PK\x01\x02";
    archive.rewind()?;
    let (mut size, mut found, mut buffer, mut kept) = (0, 0, vec![0; 256 << 10], 0);
    loop {
        let count = archive.read(&mut buffer[kept..])?;
        if count == 0 {
            return Ok((size, found));
        }
        size += count as u64;
        let filled = kept + count;
        found += buffer[..filled]
            .windows(ENTRY.len())
            .filter(|window| window == ENTRY)
            .count() as u64;
        // What may be the beginning of the next.
        kept = filled.min(ENTRY.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

fn untar_into(target: &mut Target<'_>, archive: impl Read, limit: u64) -> io::Result<()> {
    let allowance = Rc::new(Cell::new(MAX_DESCRIPTION));
    let mut archive = tar::Archive::new(Metered {
        inner: archive,
        allowance: Rc::clone(&allowance),
    });
    for entry in archive.entries()? {
        let mut entry = entry?;
        allowance.set(u64::MAX);
        let kind = entry.header().entry_type();
        let link = entry
            .link_name_bytes()
            .map(|link| String::from_utf8_lossy(&link).into_owned());
        let name = match kind {
            EntryType::XGlobalHeader => None,
            _ => Some(plain(&entry.path_bytes())?),
        };
        match (kind, name) {
            (EntryType::Directory, Some(name)) => target.directory(&name)?,
            (EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse, Some(name)) => {
                let mode = entry.header().mode().ok();
                target.file(&name, &mut entry, mode)?;
            }
            (EntryType::Symlink, Some(name)) => target.link(&name, &link.unwrap_or_default())?,
            (EntryType::Link, Some(name)) => {
                target.same(&name, &plain(link.unwrap_or_default().as_bytes())?)?
            }
            // Devices and the like: Argo leaves them out too.
            (_, _) => target.count_entries(1)?,
        }
        target.skip(&mut entry)?;
        allowance.set(MAX_DESCRIPTION);
    }
    // To its very end, where the checksum is.
    io::copy(&mut archive.into_inner().inner.take(limit), &mut io::sink())?;
    Ok(())
}

/// Unpacks into a new directory beside `path`, and puts there what came: the only entry, or all.
fn unpack(
    root: &Dir,
    path: &str,
    share: &Share,
    came: Rc<Cell<u64>>,
    work: impl FnOnce(&mut Target<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let path = Path::new(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.unpacking"));
    root.create_dir_all(&beside)?;
    let directory = root.open_dir(&beside)?;
    let mut target = Target {
        directory: &directory,
        share,
        came,
        files: 0,
        links: Vec::new(),
        parent: PathBuf::new(),
    };
    let unpacked = work(&mut target).and_then(|()| target.check_links());
    let placed = unpacked.and_then(|()| {
        let mut entries = directory.entries()?;
        match (entries.next().transpose()?, entries.next()) {
            (Some(only), None) if only.file_type()?.is_symlink() => {
                Err(invalid("it is a link, and nothing else".to_owned()))
            }
            (Some(only), None) => root.rename(beside.join(only.file_name()), root, path),
            (_, _) => return root.rename(&beside, root, path),
        }?;
        root.remove_dir(&beside)
    });
    if placed.is_err() {
        let _ = root.remove_dir_all(&beside);
    }
    placed
}

/// Where things come out, and how much did.
struct Target<'a> {
    directory: &'a Dir,
    share: &'a Share,
    /// How much of the archive was read.
    came: Rc<Cell<u64>>,
    files: u64,
    links: Vec<PathBuf>,
    /// The directory that was made last, for what is beside each other in it.
    parent: PathBuf,
}

impl Target<'_> {
    fn directory(&mut self, name: &Path) -> io::Result<()> {
        // One that is there already is an entry all the same.
        if self.make_directories(name)? == 0 {
            self.count_entries(1)
        } else {
            Ok(())
        }
    }

    fn make_directories(&mut self, name: &Path) -> io::Result<u64> {
        if name == self.parent {
            return Ok(0);
        }
        let made = make_directories(self.directory, name)?;
        self.count_entries(made)?;
        name.clone_into(&mut self.parent);
        Ok(made)
    }

    fn file(&mut self, name: &Path, content: &mut dyn Read, mode: Option<u32>) -> io::Result<()> {
        self.make_room(name)?;
        let mut file = self
            .directory
            .open_with(name, OpenOptions::new().write(true).create_new(true))?;
        let mut chunk = vec![0; 64 << 10];
        loop {
            let count = content.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            self.count_bytes(count as u64)?;
            file.write_all(&chunk[..count])?;
        }
        // Readable whatever it says: who could not read it could not take it out again.
        match mode {
            Some(mode) => file.set_permissions(Permissions::from_mode((mode & 0o777) | 0o400)),
            None => Ok(()),
        }
    }

    /// Reads what nobody wants, and counts it.
    fn skip(&mut self, content: &mut dyn Read) -> io::Result<()> {
        let mut chunk = vec![0; 8 << 10];
        loop {
            match content.read(&mut chunk)? {
                0 => return Ok(()),
                count => self.count_bytes(count as u64)?,
            }
        }
    }

    fn link(&mut self, name: &Path, target: &str) -> io::Result<()> {
        if leads_out(name, Path::new(target)) {
            return Err(invalid(format!(
                "`{}` is a link that leads out of it, to `{target}`",
                name.display()
            )));
        }
        self.make_room(name)?;
        self.links.push(name.to_owned());
        self.directory.symlink(target, name)
    }

    /// A link through another link may lead out where neither alone does. Followed here, nothing leaves the directory: that is an error.
    fn check_links(&self) -> io::Result<()> {
        for link in &self.links {
            match self.directory.metadata(link) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(invalid(format!(
                        "`{}` is a link that leads out of it by way of others",
                        link.display()
                    )));
                }
                // It leads to nothing, or was replaced.
                _ => {}
            }
        }
        Ok(())
    }

    /// A second name for a file.
    fn same(&mut self, name: &Path, first: &Path) -> io::Result<()> {
        // A link elsewhere leads elsewhere.
        if !self.directory.symlink_metadata(first)?.is_file() {
            return Err(invalid(format!(
                "`{}` is a hard link to what is no file",
                name.display()
            )));
        }
        self.make_room(name)?;
        self.directory.hard_link(first, self.directory, name)
    }

    /// Makes the directories above, and takes away what an earlier entry put there. Nothing here follows a link out of the directory.
    fn make_room(&mut self, name: &Path) -> io::Result<()> {
        self.count_entries(1)?;
        if name == Path::new("") {
            return Err(invalid("an entry of it has no name".to_owned()));
        }
        if let Some(parent) = name.parent() {
            self.make_directories(parent)?;
        }
        match self.directory.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn count_entries(&self, count: u64) -> io::Result<()> {
        self.share.take_entries(count).map_err(too_many)
    }

    fn count_bytes(&mut self, count: u64) -> io::Result<()> {
        self.files += count;
        let taken = self.share.take_bytes(count);
        taken.map_err(|left| invalid(format!("more than {left} bytes come out of it")))?;
        if self.files > FREE_OF_RATIO && self.files / MAX_RATIO > self.came.get() {
            return Err(invalid(format!(
                "more than {MAX_RATIO} times as much comes out of it as it has"
            )));
        }
        Ok(())
    }
}

/// A path below the target: Argo joins absolute ones to it, and refuses those that climb.
fn plain(path: &[u8]) -> io::Result<PathBuf> {
    let text = std::str::from_utf8(path)
        .map_err(|_| invalid("the name of an entry is not UTF-8".to_owned()))?;
    let mut name = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => name.push(part),
            Component::RootDir | Component::CurDir => {}
            _ => {
                return Err(invalid(format!(
                    "the name of an entry leads out of it: `{text}`"
                )));
            }
        }
    }
    Ok(name)
}

fn too_many(left: u64) -> io::Error {
    invalid(format!("it has more than {left} entries"))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn damaged(error: zip::result::ZipError) -> io::Error {
    match error {
        zip::result::ZipError::Io(error) => error,
        error => invalid(error.to_string()),
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
    /// The most that may come.
    limit: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.update(|counted| counted + count as u64);
        match self.count.get() > self.limit {
            true => Err(invalid(format!("it has more than {} bytes", self.limit))),
            false => Ok(count),
        }
    }
}

/// Gives no more than it is allowed to: the library reads descriptions into memory, however long they say they are.
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
            return Err(invalid(format!(
                "what describes an entry of it has more than {MAX_DESCRIPTION} bytes"
            )));
        }
        let count = self.inner.read(&mut buffer[..most])?;
        self.allowance.update(|allowance| allowance - count as u64);
        Ok(count)
    }
}
