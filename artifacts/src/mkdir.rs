//! Making directories that names ask for.

use std::io;
use std::path::Path;

use cap_std::fs::Dir;

/// The most directories above each other.
const MAX_DEPTH: usize = 256;

/// Makes a directory and those above it, from the nearest that is there. How many that were: a name can ask for many.
pub(crate) fn make_directories(root: &Dir, path: &Path) -> io::Result<u64> {
    let mut missing: Vec<&Path> = Vec::new();
    let mut made = 0;
    for above in path.ancestors().take_while(|above| *above != Path::new("")) {
        match make(root, above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(above),
            there => {
                made += there?;
                break;
            }
        }
        if missing.len() > MAX_DEPTH {
            let message = format!("it has more than {MAX_DEPTH} directories above each other");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    for path in missing.into_iter().rev() {
        made += make(root, path)?;
    }
    Ok(made)
}

fn make(root: &Dir, path: &Path) -> io::Result<u64> {
    match root.create_dir(path) {
        Ok(()) => Ok(1),
        // Somebody else made it; or it is a link to one, which nothing here follows out of the root.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir(path) => Ok(0),
        Err(error) => Err(error),
    }
}
