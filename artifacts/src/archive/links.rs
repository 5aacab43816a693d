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

/// The symbolic links of one archive. The path of each link's directory contains no links, because
/// a later entry may replace such a link.
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
        let path = without_links(directory, path)?;
        if !target.starts_with('/') {
            directory.symlink(target, &path)?;
            self.relative.push(path.into());
            return Ok(());
        }
        directory.symlink_contents(target, &path)?;
        self.absolute.push(AbsoluteLink {
            path,
            target: target.to_owned(),
        });
        Ok(())
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
        self.make_relative(directory, seen_at, only)?;
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

    /// Replaces each absolute link by a relative link.
    ///
    /// The path to a target can lead through another absolute link. Then the target is found only
    /// after that link was replaced. So the links are replaced in rounds, and the order of the
    /// entries does not matter. `cap_std` follows at most 40 links in a path, so there are few
    /// rounds.
    fn make_relative(&self, directory: &Dir, seen_at: &str, only: Option<&Path>) -> io::Result<()> {
        let mut pending = Vec::new();
        for link in &self.absolute {
            if link.is_in(directory) {
                pending.push(link.targets(seen_at, only)?);
            }
        }
        while let Some(found) = next_round(&mut pending, directory) {
            for Found { link, target } in found {
                link.replace(directory, Some(&target))?;
            }
        }
        // A link to a path below the artifact may lead to nothing.
        for Targets { link, below, .. } in pending {
            link.replace(directory, below.as_deref())?;
        }
        Ok(())
    }
}

impl AbsoluteLink {
    /// Whether the link is in the directory. A later entry may have replaced the link.
    fn is_in(&self, directory: &Dir) -> bool {
        let target = directory.read_link_contents(&self.path);
        target.is_ok_and(|target| target == Path::new(&self.target))
    }

    fn targets(&self, seen_at: &str, only: Option<&Path>) -> io::Result<Targets<'_>> {
        let from_root = resolve_link("", &self.target).ok_or_else(|| self.leads_out())?;
        let below = Path::new(&from_root)
            .strip_prefix(seen_at.trim_matches('/'))
            .ok()
            .map(|below| only.unwrap_or(Path::new("")).join(below))
            .and_then(|path| {
                path.to_str()
                    .map(|path| path.trim_end_matches('/').to_owned())
            });
        Ok(Targets {
            link: self,
            below: below.filter(|path| !path.is_empty()),
            from_root: Some(from_root).filter(|path| !path.is_empty()),
        })
    }

    /// Replaces the link by a relative link to `target`. Without a target, the link leads out.
    fn replace(&self, directory: &Dir, target: Option<&str>) -> io::Result<()> {
        let target = target.ok_or_else(|| self.leads_out())?;
        directory.remove_file(&self.path)?;
        directory.symlink(relative(&self.path, target), &self.path)
    }

    fn leads_out(&self) -> io::Error {
        outside(&self.path, &self.target)
    }
}

/// The paths in the directory that an absolute link may lead to. The path below the artifact is
/// used if something exists at both.
struct Targets<'a> {
    link: &'a AbsoluteLink,
    /// The path in the step's directory, if it is below the artifact.
    below: Option<String>,
    /// The path from the root of the archive.
    from_root: Option<String>,
}

/// A link, and the path in the directory that it leads to.
struct Found<'a> {
    link: &'a AbsoluteLink,
    target: String,
}

/// Takes the links whose targets exist now. `None` if there are none.
fn next_round<'a>(pending: &mut Vec<Targets<'a>>, directory: &Dir) -> Option<Vec<Found<'a>>> {
    // A later round may find the path below the artifact. So the path from the root is the last
    // choice for a link that has both.
    let choices: [fn(&Targets<'_>) -> Option<String>; 3] = [
        |targets| targets.below.clone(),
        |targets| match targets.below {
            Some(_) => None,
            None => targets.from_root.clone(),
        },
        |targets| targets.from_root.clone(),
    ];
    choices.into_iter().find_map(|choose| {
        let existing = |targets: &Targets<'_>| {
            choose(targets).filter(|path| directory.symlink_metadata(path).is_ok())
        };
        let taken = pending.extract_if(.., |targets| existing(targets).is_some());
        let found: Vec<_> = taken
            .filter_map(|targets| {
                let link = targets.link;
                choose(&targets).map(|target| Found { link, target })
            })
            .collect();
        (!found.is_empty()).then_some(found)
    })
}

/// The path with a parent directory that has no links in its path.
fn without_links(directory: &Dir, path: &str) -> io::Result<String> {
    let Some((parent, name)) = path.rsplit_once('/') else {
        return Ok(path.to_owned());
    };
    let parent = directory.canonicalize(parent)?;
    // The directory itself is `.`, which is no part of a plain path.
    let parent = parent.strip_prefix(".").unwrap_or(&parent);
    let path = parent.join(name).into_os_string().into_string();
    path.map_err(|_| io::ErrorKind::InvalidData.into())
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
