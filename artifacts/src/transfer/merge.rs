//! Moves downloaded inputs to their place in the directory of a step.

use std::io;
use std::path::Path;

use cap_std::fs::Dir;

use crate::Error;

/// Moves the artifact `name` from `incoming` to `path` in `root`. Blocks the thread.
///
/// A directory is merged into an existing directory. An existing file or link is replaced.
///
/// # Errors
///
/// An existing directory is not replaced by a file.
pub fn merge(incoming: &Dir, name: &str, root: &Dir, path: &str) -> Result<(), Error> {
    let merge = || {
        if let Some(parent) = Path::new(path).parent() {
            root.create_dir_all(parent)?;
        }
        merge_entry(incoming, Path::new(name), root, Path::new(path))
    };
    merge().map_err(|error| Error::local(format_args!("`/{path}`"), error))
}

fn merge_entry(incoming: &Dir, from: &Path, root: &Dir, to: &Path) -> io::Result<()> {
    match root.symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => incoming.rename(from, root, to),
        Err(error) => Err(error),
        Ok(existing) if existing.is_dir() && incoming.symlink_metadata(from)?.is_dir() => {
            let names = incoming
                .read_dir(from)?
                .map(|entry| entry.map(|entry| entry.file_name()));
            for name in names.collect::<io::Result<Vec<_>>>()? {
                merge_entry(incoming, &from.join(&name), root, &to.join(&name))?;
            }
            Ok(())
        }
        Ok(existing) if existing.is_dir() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a directory exists at this path",
        )),
        Ok(_) => {
            root.remove_file(to)?;
            incoming.rename(from, root, to)
        }
    }
}
