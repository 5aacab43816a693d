//! Symbolic links in an archive.
//!
//! Argo's executor keeps a link that leads to something in the archive, and refuses others
//! (`workflow/executor/executor.go`, `untar`). This also holds for absolute links. Where the step
//! sees the artifact at another path than Argo's executor, an absolute link would lead nowhere, and
//! WASI does not follow absolute links. So an absolute link becomes a relative link.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use untrusted_tar::{leads_out, resolve_link};

use super::invalid;

/// The symbolic links of one archive.
#[derive(Default)]
pub(super) struct Links {
    relative: Vec<PathBuf>,
    absolute: Vec<AbsoluteLink>,
}

struct AbsoluteLink {
    path: String,
    target: String,
}

impl Links {
    /// Refuses a relative link that leads out of the archive.
    pub(super) fn check(path: &str, target: &str) -> io::Result<()> {
        match !target.starts_with('/') && leads_out(path, Path::new(target)) {
            true => Err(outside(path, target)),
            false => Ok(()),
        }
    }

    /// Creates a link that was checked. An absolute link is completed by [`Links::finish`]. Until
    /// then, `cap_std` does not follow the link, because it leads out of the directory.
    pub(super) fn add(&mut self, directory: &Dir, path: &str, target: &str) -> io::Result<()> {
        if target.starts_with('/') {
            self.absolute.push(AbsoluteLink {
                path: path.to_owned(),
                target: target.to_owned(),
            });
            return directory.symlink_contents(target, path);
        }
        self.relative.push(path.into());
        directory.symlink(target, path)
    }

    /// Replaces absolute links by relative links, and then checks all links.
    ///
    /// The step sees the artifact at the absolute path `seen_at`. If `directory` has only one
    /// entry, the artifact is this entry, `only`.
    ///
    /// Two links that stay inside of the directory can lead out together. The check follows each
    /// link within the directory, and fails if the link leaves the directory.
    pub(super) fn finish(
        &self,
        directory: &Dir,
        seen_at: &str,
        only: Option<&Path>,
    ) -> io::Result<()> {
        for link in &self.absolute {
            // A later entry may have replaced the link.
            if directory
                .read_link_contents(&link.path)
                .is_ok_and(|target| target == Path::new(&link.target))
            {
                link.make_relative(directory, seen_at, only)?;
            }
        }
        let absolute = self.absolute.iter().map(|link| Path::new(&link.path));
        for path in self.relative.iter().map(PathBuf::as_path).chain(absolute) {
            match directory.metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(invalid(format!(
                        "`{}` is a link that leads out of the archive through other links",
                        path.display()
                    )));
                }
                // A link may lead to nothing, or a later entry replaced it.
                _ => {}
            }
        }
        Ok(())
    }
}

impl AbsoluteLink {
    /// Replaces the link in `directory`.
    fn make_relative(&self, directory: &Dir, seen_at: &str, only: Option<&Path>) -> io::Result<()> {
        let target = self
            .inside(directory, seen_at, only)
            .ok_or_else(|| outside(&self.path, &self.target))?;
        directory.remove_file(&self.path)?;
        directory.symlink(relative(&self.path, &target), &self.path)
    }

    /// The path in `directory` that the link leads to. `None` if it leads out.
    ///
    /// The target is a path in the step's directory, below the artifact. Otherwise the target is a
    /// path from the root of the archive, where something must exist.
    fn inside(&self, directory: &Dir, seen_at: &str, only: Option<&Path>) -> Option<String> {
        let target = resolve_link("", &self.target)?;
        let exists = |path: &str| directory.symlink_metadata(path).is_ok();
        let below = Path::new(&target)
            .strip_prefix(seen_at.trim_matches('/'))
            .ok()
            .map(|below| only.unwrap_or(Path::new("")).join(below))
            .and_then(|path| {
                path.to_str()
                    .map(|path| path.trim_end_matches('/').to_owned())
            })
            .filter(|path| !path.is_empty());
        match below {
            Some(below) if exists(&below) || !exists(&target) => Some(below),
            _ => (!target.is_empty() && exists(&target)).then_some(target),
        }
    }
}

/// The target of a relative link at `path` that leads to `target`. Both are plain paths. The target
/// stays right when a directory around both is moved.
fn relative(path: &str, target: &str) -> String {
    let mut above: Vec<&str> = path.split('/').collect();
    above.pop();
    let below: Vec<&str> = target.split('/').collect();
    let common = above
        .iter()
        .zip(&below)
        .take_while(|(one, other)| one == other)
        .count();
    let up = std::iter::repeat_n("..", above.len() - common);
    let segments: Vec<&str> = up.chain(below[common..].iter().copied()).collect();
    match segments.is_empty() {
        true => ".".to_owned(),
        false => segments.join("/"),
    }
}

fn outside(path: &str, target: &str) -> io::Error {
    invalid(format!(
        "`{path}` is a link that leads out of the archive, to `{target}`"
    ))
}
