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

/// Sets the permissions of a downloaded artifact.
pub async fn set_permissions(root: &Arc<Dir>, path: &str, mode: Option<Mode>) -> Result<(), Error> {
    let Some(mode) = mode else {
        return Ok(());
    };
    blocking(root, path, move |root, path| {
        set_mode(root, Path::new(path), mode)
    })
    .await
}

/// The owner keeps access: this process must be able to read each file, and to remove each
/// directory.
fn set_mode(root: &Dir, path: &Path, mode: Mode) -> io::Result<()> {
    let metadata = root.symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let owner = if metadata.is_dir() { 0o700 } else { 0o400 };
    let bits = (mode.bits | owner) & 0o777;
    root.set_permissions(path, Permissions::from_mode(bits))?;
    if mode.recursive && metadata.is_dir() {
        for entry in root.read_dir(path)? {
            set_mode(root, &path.join(entry?.file_name()), mode)?;
        }
    }
    Ok(())
}
