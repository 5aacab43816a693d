//! What lies at and below a path, in the order in which Argo packs it.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, Metadata};

/// A file, directory or link.
pub(crate) struct Entry {
    /// Where it is below the root.
    pub(crate) path: PathBuf,
    /// What it is called: the last part of the path that was walked, and what comes below it.
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    File,
    Directory,
    /// A symbolic link, with where it leads.
    Link(PathBuf),
    /// Nothing that an artifact can hold.
    Other,
}

/// Calls `each` with what is at `path` and everything below it: directories before what they hold, and that by name. What is at `path` may be a link that
/// leads to somewhere in the root.
pub(crate) fn walk(
    root: &Dir,
    path: &str,
    mut each: impl FnMut(Entry) -> io::Result<()>,
) -> io::Result<()> {
    let name = Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("artifact")
        .to_owned();
    let metadata = root.metadata(path)?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a directory",
        ));
    }
    // The names of a directory are read when its turn comes, and kept for one directory of each level at most.
    let mut pending = vec![(PathBuf::from(path), name, metadata)];
    while let Some((path, name, metadata)) = pending.pop() {
        let kind = kind(root, &path, &metadata)?;
        if let Kind::Directory = kind {
            let mut below = Vec::new();
            for entry in root.read_dir(&path)? {
                let entry = entry?;
                let own = entry.file_name().into_string().map_err(|own| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("the name `{}` is not UTF-8", own.display()),
                    )
                })?;
                below.push((
                    path.join(&own),
                    format!("{name}/{own}"),
                    root.symlink_metadata(path.join(&own))?,
                ));
            }
            below.sort_by(|(one, ..), (other, ..)| other.cmp(one));
            pending.append(&mut below);
        }
        each(Entry {
            path,
            name,
            metadata,
            kind,
        })?;
    }
    Ok(())
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
