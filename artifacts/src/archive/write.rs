//! Packing what a step left, as Argo's executor does it (`util/archive/archive.go`): entries are called by the last part of the path, and by
//! what comes below it.

use std::io::{self, Read, Write};
use std::path::Path;

use cap_std::fs::{Dir, File, Metadata, MetadataExt, PermissionsExt};
use flate2::Compression;
use flate2::write::GzEncoder;
use untrusted_tar::leads_out;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::entries::{Entry, Kind, walk};

/// Beyond that, a file in a zip needs the larger fields.
const LARGE: u64 = u32::MAX as u64;

/// What went into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// Links that lead out, and what is neither file, directory nor link.
    pub(crate) left_out: usize,
}

/// Writes a gzipped tar of the file or directory at `path`.
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
            Kind::Link(target) if leads_out(&name, &target) => {
                packed.left_out += 1;
                Ok(())
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, &name, target)
            }
            Kind::File => {
                let (file, length) = open(root, &path)?;
                packed.count(length, limit)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(length);
                builder.append_data(
                    &mut header,
                    &name,
                    Exactly {
                        inner: file,
                        left: length,
                    },
                )
            }
            Kind::Other => {
                packed.left_out += 1;
                Ok(())
            }
        }
    })?;
    builder.into_inner()?.finish()?.flush()?;
    Ok(packed)
}

/// Writes a zip of the file or directory at `path`. It has no links and no directories of their own, as Argo's have none.
pub(crate) fn zip(root: &Dir, path: &str, limit: u64, out: impl Write) -> io::Result<Packed> {
    let mut writer = ZipWriter::new_stream(out);
    let mut packed = Packed::default();
    walk(root, path, |entry| {
        match entry.kind {
            Kind::Directory => {}
            Kind::Link(_) | Kind::Other => packed.left_out += 1,
            Kind::File => {
                let (file, length) = open(root, &entry.path)?;
                packed.count(length, limit)?;
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Deflated)
                    .unix_permissions(entry.metadata.permissions().mode() & 0o777)
                    .large_file(length >= LARGE);
                writer.start_file(entry.name, options)?;
                io::copy(
                    &mut Exactly {
                        inner: file,
                        left: length,
                    },
                    &mut writer,
                )?;
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
            true => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it is larger than {limit} bytes"),
            )),
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

/// A regular file, and how long it is now.
fn open(root: &Dir, path: &Path) -> io::Result<(File, u64)> {
    let file = root.open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok((file, metadata.len())),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )),
    }
}

/// So many bytes were announced: no more are read, and fewer are an error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it became shorter while it was read",
            )),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}
