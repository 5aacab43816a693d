//! Input artifacts from the command line: `-a NAME=HOST_PATH:GUEST_PATH`.

use std::collections::BTreeMap;
use std::path::Path;

use artifacts::{Location, Repository};
use serde_json::Value;

use super::template_edits::{self, Side};
use crate::cli::Failure;
use crate::cli::arguments::NameValue;

/// The two paths of an input artifact.
struct Paths<'a> {
    host: &'a str,
    /// `None` if the flag has only one path.
    guest: Option<&'a str>,
}

/// The location of each input artifact, as an object in a store of files. An artifact that the
/// template does not declare is added to the template.
pub(super) fn supply(
    flags: &[NameValue],
    template: &mut Value,
) -> Result<BTreeMap<String, Location>, Failure> {
    let mut supplied = BTreeMap::new();
    for NameValue { name, value } in flags {
        let paths = paths(name, value)?;
        let declared = template_edits::artifact_names(template, Side::Inputs);
        if paths.guest.is_none() && !declared.contains(&name.as_str()) {
            return Err(no_guest_path(name, paths.host, &declared));
        }
        supplied.insert(name.clone(), location(paths.host)?);
        if let Some(guest) = paths.guest {
            template_edits::declare_artifact(template, Side::Inputs, name, guest)?;
        }
    }
    Ok(supplied)
}

/// Splits `HOST_PATH:GUEST_PATH`. The path on the host may contain a colon, too.
fn paths<'a>(name: &str, value: &'a str) -> Result<Paths<'a>, Failure> {
    match value.rsplit_once(':') {
        Some((host, guest)) if guest.starts_with('/') => Ok(Paths {
            host,
            guest: Some(guest),
        }),
        Some((_, guest)) if !Path::new(value).exists() => Err(Failure::usage(format!(
            "-a {name}={value}: `{guest}`, the guest's path, must begin with `/`"
        ))),
        _ => Ok(Paths {
            host: value,
            guest: None,
        }),
    }
}

fn no_guest_path(name: &str, host: &str, declared: &[&str]) -> Failure {
    let hint = format!("add the path at which the guest finds it: -a {name}={host}:/in/{name}");
    let failure = match declared {
        [] => Failure::usage(format!(
            "-a {name}={host}: the path in the guest is missing"
        )),
        declared => Failure::usage(format!(
            "the template has no input artifact `{name}`; it has {}",
            declared.join(", ")
        )),
    };
    failure.with_hint(hint)
}

/// The file or directory as an object: its parent is the store, its name is the key.
fn location(host: &str) -> Result<Location, Failure> {
    let path =
        std::path::absolute(host).map_err(|error| Failure::usage(format!("`{host}`: {error}")))?;
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(parent), Some(name)) = (path.parent(), name) else {
        return Err(Failure::usage(format!(
            "`{}` cannot be an artifact",
            path.display()
        )));
    };
    if !path.exists() {
        return Err(Failure::usage(format!(
            "there is no file or directory `{}`",
            path.display()
        )));
    }
    Ok(Location {
        repository: Repository::directory(parent),
        key: name.to_owned(),
        default: false,
    })
}
