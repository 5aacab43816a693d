//! Packs outputs as Argo's executor does (`util/archive/archive.go`).

use std::io::{self, Read, Write};
use std::path::Path;

use cap_std::fs::{Dir, File, Metadata, MetadataExt, PermissionsExt};
use flate2::Compression;
use flate2::write::GzEncoder;
use untrusted_tar::leads_out;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::entries::{Entry, Kind, walk};

/// Files of this length or longer need the ZIP64 fields.
const ZIP64_LENGTH: u64 = u32::MAX as u64;

/// Permissions of the directories in a zip archive. The program that unpacks the archive writes
/// into these directories.
const DIRECTORY_MODE: u32 = 0o755;

/// Summary of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Bytes of files, before compression.
    pub(crate) bytes: u64,
    /// Number of entries that were left out: links out of the artifact, and special files.
    pub(crate) left_out: usize,
}

/// Writes a gzipped tar archive of the file or directory at `path`. More than `limit` bytes of
/// files are an error.
pub(crate) fn tar_gz(
    root: &Dir,
    path: &str,
    level: u32,
    limit: u64,
    out: impl Write,
) -> io::Result<Packed> {
    let mut builder = tar::Builder::new(GzEncoder::new(out, Compression::new(level)));
    let mut packed = Packed::default();
    walk(root, path, |entry| {
        let Entry {
            path,
            name,
            metadata,
            kind,
        } = entry;
        let mut header = header(&metadata);
        match kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, format!("{name}/"), io::empty())
            }
            Kind::Link(target) if !leads_out(&name, &target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, &name, target)
            }
            Kind::File => {
                let content = ExactReader::open(root, &path)?;
                packed.count(content.remaining, limit)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.remaining);
                builder.append_data(&mut header, &name, content)
            }
            Kind::Link(_) | Kind::Other => {
                packed.left_out += 1;
                Ok(())
            }
        }
    })?;
    builder.into_inner()?.finish()?.flush()?;
    Ok(packed)
}

/// Writes a zip archive of the file or directory at `path`. More than `limit` bytes of files are an
/// error.
///
/// The directories in the archive have entries. Without them, Argo's executor creates a directory
/// with the mode of a file in it, and cannot enter the directory (`unzip` in
/// `workflow/executor/executor.go`).
pub(crate) fn zip(root: &Dir, path: &str, limit: u64, out: impl Write) -> io::Result<Packed> {
    let mut writer = ZipWriter::new_stream(out);
    let mut packed = Packed::default();
    walk(root, path, |entry| {
        match entry.kind {
            Kind::Directory => {
                let options = SimpleFileOptions::default().unix_permissions(DIRECTORY_MODE);
                writer.add_directory(entry.name, options)?;
            }
            Kind::Link(_) | Kind::Other => packed.left_out += 1,
            Kind::File => {
                let mut content = ExactReader::open(root, &entry.path)?;
                packed.count(content.remaining, limit)?;
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Deflated)
                    .unix_permissions(entry.metadata.permissions().mode() & 0o777)
                    .large_file(content.remaining >= ZIP64_LENGTH);
                writer.start_file(entry.name, options)?;
                io::copy(&mut content, &mut writer)?;
            }
        }
        Ok(())
    })?;
    writer.finish()?.into_inner().flush()?;
    Ok(packed)
}

impl Packed {
    fn count(&mut self, length: u64, limit: u64) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(length);
        match self.bytes > limit {
            true => Err(invalid_file(format!(
                "the artifact is larger than {limit} bytes"
            ))),
            false => Ok(()),
        }
    }
}

fn header(metadata: &Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(metadata.permissions().mode() & 0o777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header
}

/// Reads exactly as many bytes as the file had when it was opened: the header of an entry announces
/// the length. A file that became shorter is an error.
struct ExactReader {
    file: File,
    remaining: u64,
}

impl ExactReader {
    fn open(root: &Dir, path: &Path) -> io::Result<Self> {
        let file = root.open(path)?;
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok(Self {
                file,
                remaining: metadata.len(),
            }),
            false => Err(invalid_file("it is not a regular file".to_owned())),
        }
    }
}

impl Read for ExactReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..most])? {
            0 => Err(invalid_file(
                "a file became shorter while it was read".to_owned(),
            )),
            count => {
                self.remaining -= count as u64;
                Ok(count)
            }
        }
    }
}

fn invalid_file(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
