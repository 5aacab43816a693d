//! Where what was brought goes, and who may read it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, Permissions, PermissionsExt};

use super::disk::blocking;
use crate::Error;

/// Sets the permissions of what was brought, and of everything in it if that is asked for.
pub async fn permit(root: &Arc<Dir>, path: &str, mode: Option<(u32, bool)>) -> Result<(), Error> {
    let Some((mode, recurse)) = mode else {
        return Ok(());
    };
    blocking(root, path, move |root, path| {
        set_mode(root, Path::new(path), mode, recurse)
    })
    .await
}

/// Puts what was brought to `incoming` at its path: into what is there already where both are directories, and over everything else.
pub fn place(incoming: &Dir, name: &str, root: &Dir, path: &str) -> Result<(), Error> {
    let place = || {
        if let Some(parent) = Path::new(path).parent() {
            root.create_dir_all(parent)?;
        }
        put(incoming, Path::new(name), root, Path::new(path))
    };
    place().map_err(|error| Error::local(format_args!("`/{path}`"), error))
}

fn put(incoming: &Dir, from: &Path, root: &Dir, to: &Path) -> io::Result<()> {
    match root.symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => incoming.rename(from, root, to),
        Err(error) => Err(error),
        Ok(there) if there.is_dir() && incoming.symlink_metadata(from)?.is_dir() => {
            let names = incoming
                .read_dir(from)?
                .map(|entry| entry.map(|entry| entry.file_name()));
            for name in names.collect::<io::Result<Vec<_>>>()? {
                put(incoming, &from.join(&name), root, &to.join(&name))?;
            }
            Ok(())
        }
        Ok(there) if there.is_dir() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a directory is there already",
        )),
        Ok(_) => {
            root.remove_file(to)?;
            incoming.rename(from, root, to)
        }
    }
}

/// Directories stay open to whoever has to remove them.
fn set_mode(root: &Dir, path: &Path, mode: u32, recurse: bool) -> io::Result<()> {
    let metadata = root.symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let least = if metadata.is_dir() { 0o700 } else { 0o400 };
    root.set_permissions(path, Permissions::from_mode((mode | least) & 0o777))?;
    if recurse && metadata.is_dir() {
        for entry in root.read_dir(path)? {
            set_mode(root, &path.join(entry?.file_name()), mode, true)?;
        }
    }
    Ok(())
}
