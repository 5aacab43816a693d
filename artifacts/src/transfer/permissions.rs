//! Permissions of downloaded inputs.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, Permissions, PermissionsExt};
use serde::{Deserialize, Serialize};

use super::disk::blocking;
use crate::Error;

/// Permissions of an input: Argo's `mode` and `recurseMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Permission bits, 0 to 0o777.
    pub bits: u32,
    /// Whether the bits are also set on everything in a directory.
    pub recursive: bool,
}

/// Sets the permissions of what was brought, and of everything in it if that is asked for.
pub async fn set_permissions(root: &Arc<Dir>, path: &str, mode: Option<Mode>) -> Result<(), Error> {
    let Some(Mode { bits, recursive }) = mode else {
        return Ok(());
    };
    blocking(root, path, move |root, path| {
        set_mode(root, Path::new(path), bits, recursive)
    })
    .await
}

/// Directories stay open to whoever has to remove them.
fn set_mode(root: &Dir, path: &Path, bits: u32, recursive: bool) -> io::Result<()> {
    let metadata = root.symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let least = if metadata.is_dir() { 0o700 } else { 0o400 };
    root.set_permissions(path, Permissions::from_mode((bits | least) & 0o777))?;
    if recursive && metadata.is_dir() {
        for entry in root.read_dir(path)? {
            set_mode(root, &path.join(entry?.file_name()), bits, true)?;
        }
    }
    Ok(())
}
