//! Creates directories and counts them.

use std::io;
use std::path::Path;

use cap_std::fs::Dir;

/// Highest number of missing directories in one path.
const MAX_DEPTH: usize = 256;

/// Creates a directory and its missing parents. Returns the number of directories created: one path
/// can ask for many, and each is an entry.
pub(crate) fn make_directories(root: &Dir, path: &Path) -> io::Result<u64> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut created = 0;
    // From the path upwards, to the first directory that exists or can be created.
    for above in path.ancestors().take_while(|above| *above != Path::new("")) {
        match create(root, above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(above),
            done => {
                created += done?;
                break;
            }
        }
        if missing.len() > MAX_DEPTH {
            let message = format!("a path has more than {MAX_DEPTH} nested directories");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    for path in missing.into_iter().rev() {
        created += create(root, path)?;
    }
    Ok(created)
}

/// Creates one directory. Returns 0 if the directory exists, or a link within the root leads to it.
fn create(root: &Dir, path: &Path) -> io::Result<u64> {
    match root.create_dir(path) {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir(path) => Ok(0),
        Err(error) => Err(error),
    }
}
