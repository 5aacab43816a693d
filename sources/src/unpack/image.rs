//! The module in the layers of an image.
//!
//! Layers are read from the bottom to the top, and a later entry replaces an earlier one. A whiteout takes away what lower layers have
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>). The layers are read twice: once for the names, and the
//! one that has the module for its content.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use bytes::Bytes;

use super::archive::{self, Kind, entries};
use super::{Budget, Content, Limits, damaged};
use crate::package::is_module_name;
use crate::{Error, ErrorKind};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// The name in images of the Istio and Envoy "compat" variant; what lies beside it there is for them alone.
const COMPAT: &str = "plugin.wasm";
const COMPAT_CONFIG: &str = "runtime-config.json";
const MAX_LINKS: usize = 8;

/// Where the top-most entry of a path is.
struct Place {
    layer: usize,
    kind: Kind,
}

/// The module at `path`, or the only one. `layer` gives the bytes of one layer, the lowest first.
pub(crate) fn image(
    count: usize,
    layer: &mut dyn FnMut(usize) -> Result<Content, Error>,
    path: Option<&str>,
    limits: Limits,
) -> Result<Bytes, Error> {
    let mut places = BTreeMap::new();
    let mut budget = Budget::new(limits);
    for number in 0..count {
        let content = layer(number)?;
        // A tool that did not say what it pushed: the one layer is the module itself.
        if count == 1
            && content
                .head()
                .map_err(|error| damaged(&error))?
                .starts_with(b"\0asm")
        {
            return content
                .bytes(limits.module)
                .map_err(|error| damaged(&error));
        }
        read_names(&content, number, &mut places, &mut budget)?;
    }
    let path = choose(&places, path)?;
    refuse_more_files(&places, &path)?;
    let place = &places[&path];
    file_in(&layer(place.layer)?, &path, limits)?
        .ok_or_else(|| Error::new(ErrorKind::Store, "the layer changed while it was read"))
}

fn read_names(
    content: &Content,
    layer: usize,
    places: &mut BTreeMap<String, Place>,
    budget: &mut Budget,
) -> Result<(), Error> {
    let mut opaque = BTreeSet::new();
    entries(content, budget, |path, kind, _| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == OPAQUE {
            // Once is enough, however often it is said.
            if opaque.insert(directory.to_owned()) {
                take_away_below(places, directory, layer);
            }
        } else if let Some(gone) = name.strip_prefix(WHITEOUT) {
            let gone = if directory.is_empty() {
                gone.to_owned()
            } else {
                format!("{directory}/{gone}")
            };
            if places.get(&gone).is_some_and(|place| place.layer != layer) {
                places.remove(&gone);
            }
            take_away_below(places, &gone, layer);
        } else {
            places.insert(path.to_owned(), Place { layer, kind });
        }
        Ok(())
    })
}

/// Takes away what lower layers have in a directory. Paths below it stand together: `0` comes after `/`.
fn take_away_below(places: &mut BTreeMap<String, Place>, directory: &str, layer: usize) {
    if directory.is_empty() {
        places.retain(|_, place| place.layer == layer);
        return;
    }
    let below = places.range(format!("{directory}/")..format!("{directory}0"));
    let gone: Vec<String> = below
        .filter(|(_, place)| place.layer != layer)
        .map(|(path, _)| path.clone())
        .collect();
    for path in gone {
        places.remove(&path);
    }
}

/// The path of the module's own entry, after links.
fn choose(places: &BTreeMap<String, Place>, wanted: Option<&str>) -> Result<String, Error> {
    if let Some(wanted) = wanted {
        let path = archive::plain(wanted.as_bytes()).and_then(|path| follow(places, path));
        return path.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "the image has no file `{wanted}`; its modules are: {}",
                    modules(places)
                ),
            )
        });
    }
    if let Some(path) = follow(places, COMPAT.to_owned()) {
        return Ok(path);
    }
    let mut names = places
        .iter()
        .filter(|(path, place)| is_module_name(path) && place.kind == Kind::File);
    match (names.next(), names.next()) {
        (Some((only, _)), None) => Ok(only.clone()),
        (None, _) => {
            Err(Error::new(ErrorKind::Unsupported, "the archive holds no module: no file in it ends in `.wasm`").hint(
                "of an image in a registry choose it with `module: {oci: {ref: …, path: …}}`, if it has another name",
            ))
        }
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Ambiguous,
            format!("the archive holds several modules: {}", modules(places)),
        )
        .hint(
            "of an image in a registry choose one with `module: {oci: {ref: …, path: …}}`; elsewhere publish it alone",
        )),
    }
}

fn modules(places: &BTreeMap<String, Place>) -> String {
    let names = places
        .keys()
        .filter(|path| is_module_name(path))
        .take(10)
        .map(|path| format!("/{path}"));
    let names = names.collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        "none".to_owned()
    } else {
        names
    }
}

fn follow(places: &BTreeMap<String, Place>, path: String) -> Option<String> {
    let mut path = path;
    for _ in 0..=MAX_LINKS {
        match &places.get(&path)?.kind {
            Kind::File => return Some(path),
            Kind::Link(target) => path.clone_from(target),
            Kind::Other => return None,
        }
    }
    None
}

/// Files beside the module would be missing while it runs. Other modules are for other steps.
fn refuse_more_files(places: &BTreeMap<String, Place>, module: &str) -> Result<(), Error> {
    let others: Vec<&String> = places
        .iter()
        .filter(|(path, place)| place.kind == Kind::File && *path != module)
        .map(|(path, _)| path)
        .filter(|path| !is_module_name(path) && *path != COMPAT_CONFIG)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let shown = others
        .iter()
        .take(3)
        .map(|path| format!("/{path}"))
        .collect::<Vec<_>>()
        .join(", ");
    let count = others.len();
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("the image carries {count} files beside its module ({shown}), which this version cannot give to it"),
    )
    .hint("publish the module alone, or pass the files as artifacts"))
}

/// A file in an archive.
pub(super) fn file_in(
    layer: &Content,
    wanted: &str,
    limits: Limits,
) -> Result<Option<Bytes>, Error> {
    let mut found = None;
    entries(layer, &mut Budget::new(limits), |path, kind, reader| {
        if path == wanted && kind == Kind::File {
            let mut bytes = Vec::new();
            reader
                .take(limits.module + 1)
                .read_to_end(&mut bytes)
                .map_err(|error| damaged(&error))?;
            if bytes.len() as u64 > limits.module {
                let limit = limits.module;
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the module in the image is larger than {limit} bytes"),
                )
                .hint("the operator sets `sources.maxModuleSize`"));
            }
            // The last one counts.
            found = Some(Bytes::from(bytes));
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMITS, MODULE, gzip};
    use super::*;

    /// An archive of files, and of links where the content begins with `->`.
    fn tar(files: &[(&str, &[u8])]) -> Bytes {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            // The crate refuses to write names that climb; others do not.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_mode(0o644);
            if let Some(target) = content.strip_prefix(b"->") {
                header.set_entry_type(tar::EntryType::Symlink);
                header
                    .set_link_name(std::str::from_utf8(target).unwrap())
                    .unwrap();
                header.set_size(0);
                header.set_cksum();
                builder.append(&header, &[][..]).unwrap();
            } else {
                header.set_size(content.len() as u64);
                header.set_cksum();
                builder.append(&header, *content).unwrap();
            }
        }
        builder.into_inner().unwrap().into()
    }

    fn find(layers: &[Bytes], path: Option<&str>) -> Result<Bytes, Error> {
        image(
            layers.len(),
            &mut |number| Ok(layers[number].clone().into()),
            path,
            LIMITS,
        )
    }

    fn kind(layers: &[Bytes], path: Option<&str>) -> ErrorKind {
        find(layers, path).unwrap_err().kind()
    }

    #[test]
    fn the_only_module_the_named_one_and_plain_bytes() {
        let one = tar(&[("./bin/app.wasm", MODULE)]);
        assert_eq!(find(std::slice::from_ref(&one), None).unwrap(), MODULE);
        assert_eq!(find(&[gzip(&one)], Some("/bin/app.wasm")).unwrap(), MODULE);
        assert_eq!(
            find(
                &[ruzstd::encoding::compress_to_vec(
                    &one[..],
                    ruzstd::encoding::CompressionLevel::Fastest
                )
                .into()],
                None
            )
            .unwrap(),
            MODULE
        );
        assert_eq!(
            find(&[Bytes::from_static(MODULE)], None).unwrap(),
            MODULE,
            "mislabelled"
        );
        let two = tar(&[("a.wasm", b"\0asma"), ("b.wasm", b"\0asmb")]);
        assert_eq!(
            find(std::slice::from_ref(&two), Some("b.wasm")).unwrap(),
            &b"\0asmb"[..]
        );
        assert_eq!(kind(std::slice::from_ref(&two), None), ErrorKind::Ambiguous);
        assert_eq!(kind(&[two], Some("c.wasm")), ErrorKind::NotFound);
        let compat = tar(&[("plugin.wasm", MODULE), ("runtime-config.json", b"{}")]);
        assert_eq!(find(&[compat], None).unwrap(), MODULE);
        let linked = tar(&[("app/main.wasm", MODULE), ("entry", b"->app/main.wasm")]);
        assert_eq!(find(&[linked], Some("/entry")).unwrap(), MODULE);
    }

    #[test]
    fn later_layers_replace_and_take_away() {
        let old = tar(&[("app.wasm", b"\0asmold")]);
        let new = tar(&[("app.wasm", b"\0asmnew")]);
        assert_eq!(find(&[old.clone(), new], None).unwrap(), &b"\0asmnew"[..]);
        let away = tar(&[(".wh.app.wasm", b"")]);
        assert_eq!(
            kind(&[old.clone(), away.clone()], None),
            ErrorKind::Unsupported
        );
        assert_eq!(
            find(&[away, old.clone()], None).unwrap(),
            &b"\0asmold"[..],
            "a whiteout hides lower layers only"
        );
        let deep = tar(&[("d/a.wasm", b"\0asma")]);
        let opaque = tar(&[("d/.wh..wh..opq", b""), ("d/b.wasm", b"\0asmb")]);
        assert_eq!(find(&[deep.clone(), opaque], None).unwrap(), &b"\0asmb"[..]);
        let directory = tar(&[(".wh.d", b"")]);
        assert_eq!(
            find(&[old, deep, directory], None).unwrap(),
            &b"\0asmold"[..]
        );
    }

    #[test]
    fn what_climbs_or_goes_in_circles_is_not_there() {
        let climbing = tar(&[("../../evil.wasm", MODULE), ("ok.wasm", b"\0asmok")]);
        assert_eq!(find(&[climbing], None).unwrap(), &b"\0asmok"[..]);
        let circle = tar(&[("a", b"->b"), ("b", b"->a")]);
        assert_eq!(kind(&[circle], Some("a")), ErrorKind::NotFound);
        let outside = tar(&[("a", b"->../../../etc/passwd")]);
        assert_eq!(kind(&[outside], Some("a")), ErrorKind::NotFound);
    }

    #[test]
    fn files_beside_the_module_are_an_error_that_names_them() {
        let error = find(&[tar(&[("app.wasm", MODULE), ("etc/config", b"x")])], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error
                .to_string()
                .contains("1 files beside its module (/etc/config)"),
            "{error}"
        );
    }

    #[test]
    fn bounds_hold() {
        let large = gzip(&tar(&[("app.wasm", &vec![0; 2 << 20])]));
        assert_eq!(kind(&[large], None), ErrorKind::TooLarge);
        let bomb = gzip(&tar(&[("app.wasm", MODULE), ("x", &vec![0; 9 << 20])]));
        assert_eq!(
            kind(&[bomb], None),
            ErrorKind::Protocol,
            "cut off at the bound"
        );
        let mut long = tar::Builder::new(Vec::new());
        for number in 0..5000 {
            let name = format!("{number}/{}", "n/".repeat(1900));
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            long.append_data(&mut header, name, &[][..]).unwrap();
        }
        let long = gzip(&long.into_inner().unwrap());
        let error = image(
            1,
            &mut |_| Ok(long.clone().into()),
            None,
            Limits { module: 64 << 20 },
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("the paths in the archive"),
            "{error}"
        );
        let whole = gzip(&tar(&[("app.wasm", &[7; 5000])]));
        assert_eq!(
            kind(&[whole.slice(..whole.len() / 2)], None),
            ErrorKind::Protocol
        );
        assert_eq!(
            kind(
                &[Bytes::from_static(b"not a tar archive, by any means")],
                None
            ),
            ErrorKind::Protocol
        );
    }
}
