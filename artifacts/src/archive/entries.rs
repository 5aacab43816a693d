//! Walks over a file or directory, in the order in which Argo packs it.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata};

/// A file, directory or link.
pub(crate) struct Entry {
    /// Path, relative to the root.
    pub(crate) path: PathBuf,
    /// Name in the archive: the last segment of the path of the artifact, and the path below it.
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) kind: Kind,
}

/// Type of an entry.
pub(crate) enum Kind {
    File,
    Directory,
    /// A symbolic link with this target.
    Link(PathBuf),
    /// A device, a pipe or a socket. An artifact cannot hold it.
    Other,
}

/// Calls `each` with the file or directory at `path`, and with everything below it. A directory
/// comes before its content, which is sorted by name. `path` itself may be a link within the root.
pub(crate) fn walk(
    root: &Dir,
    path: &str,
    mut each: impl FnMut(Entry) -> io::Result<()>,
) -> io::Result<()> {
    let metadata = root.metadata(path)?;
    if !metadata.is_file() && !metadata.is_dir() {
        let message = "it is neither a file nor a directory";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let name = Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("artifact");
    let first = Entry {
        path: path.into(),
        name: name.to_owned(),
        kind: kind(root, Path::new(path), &metadata)?,
        metadata,
    };
    // Holds the entries of at most one directory of each level.
    let mut pending = vec![first];
    while let Some(entry) = pending.pop() {
        if let Kind::Directory = entry.kind {
            let mut below = read_directory(root, &entry)?;
            below.sort_by(|one, other| other.path.cmp(&one.path));
            pending.append(&mut below);
        }
        each(entry)?;
    }
    Ok(())
}

fn read_directory(root: &Dir, directory: &Entry) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in root.read_dir(&directory.path)? {
        let name = entry?.file_name().into_string().map_err(|name| {
            let message = format!("the name `{}` is not UTF-8", name.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?;
        let path = directory.path.join(&name);
        let metadata = root.symlink_metadata(&path)?;
        entries.push(Entry {
            kind: kind(root, &path, &metadata)?,
            name: format!("{}/{name}", directory.name),
            path,
            metadata,
        });
    }
    Ok(entries)
}

fn kind(root: &Dir, path: &Path, metadata: &Metadata) -> io::Result<Kind> {
    Ok(if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_file() {
        Kind::File
    } else if metadata.is_symlink() {
        Kind::Link(root.read_link_contents(path)?)
    } else {
        Kind::Other
    })
}
