//! Finds the module in the layers of an image.
//!
//! Layers are read from the lowest to the highest. A later entry replaces an earlier entry with the
//! same path. A whiteout removes a path of lower layers
//! (<https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>).
//!
//! All layers are read once for the paths. Then the layer with the module is read again for the
//! content. This way, only the module is held in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use bytes::Bytes;

use super::Content;
use super::archive::{self, Kind, entries};
use super::budget::{Budget, Limits, damaged};
use crate::package::is_module_name;
use crate::{Error, ErrorKind};

/// The prefix of a whiteout: `.wh.NAME` removes `NAME`.
const WHITEOUT: &str = ".wh.";
/// The opaque whiteout: it removes all paths of lower layers in its directory.
const OPAQUE: &str = ".wh..wh..opq";
/// The module of an image in the "compat" variant of Istio and Envoy.
const COMPAT: &str = "plugin.wasm";
/// The configuration for Envoy beside [`COMPAT`]. The module does not read it.
const COMPAT_CONFIG: &str = "runtime-config.json";
/// The longest chain of links.
const MAX_LINKS: usize = 8;

/// The highest entry of a path.
struct LayerEntry {
    /// The number of the layer. The lowest layer has 0.
    layer: usize,
    kind: Kind,
}

/// The module at `path`, or the only module. `layer` opens the layer with this number. The lowest
/// layer has the number 0.
pub(crate) fn image(
    count: usize,
    layer: &mut dyn FnMut(usize) -> Result<Content, Error>,
    path: Option<&str>,
    limits: Limits,
) -> Result<Bytes, Error> {
    let mut paths = BTreeMap::new();
    let mut budget = Budget::new(limits);
    for number in 0..count {
        let content = layer(number)?;
        // Some tools push a module as the only layer, without its media type.
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
        read_names(&content, number, &mut paths, &mut budget)?;
    }
    let path = choose(&paths, path)?;
    refuse_more_files(&paths, &path)?;
    let entry = &paths[&path];
    file_in(&layer(entry.layer)?, &path, limits)?
        .ok_or_else(|| Error::new(ErrorKind::Store, "the layer changed while it was read"))
}

/// Reads the paths of one layer.
fn read_names(
    content: &Content,
    layer: usize,
    paths: &mut BTreeMap<String, LayerEntry>,
    budget: &mut Budget,
) -> Result<(), Error> {
    let mut opaque = BTreeSet::new();
    entries(content, budget, |path, kind, _| {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == OPAQUE {
            // A repeated opaque whiteout changes nothing, and costs time.
            if opaque.insert(directory.to_owned()) {
                remove_below(paths, directory, layer);
            }
        } else if let Some(gone) = name.strip_prefix(WHITEOUT) {
            let gone = if directory.is_empty() {
                gone.to_owned()
            } else {
                format!("{directory}/{gone}")
            };
            if paths.get(&gone).is_some_and(|entry| entry.layer != layer) {
                paths.remove(&gone);
            }
            remove_below(paths, &gone, layer);
        } else {
            paths.insert(path.to_owned(), LayerEntry { layer, kind });
        }
        Ok(())
    })
}

/// Removes the paths of lower layers in a directory. In the sorted map, the paths below `a` are
/// between `a/` and `a0`: the character after `/` is `0`.
fn remove_below(paths: &mut BTreeMap<String, LayerEntry>, directory: &str, layer: usize) {
    if directory.is_empty() {
        paths.retain(|_, entry| entry.layer == layer);
        return;
    }
    let below = paths.range(format!("{directory}/")..format!("{directory}0"));
    let gone: Vec<String> = below
        .filter(|(_, entry)| entry.layer != layer)
        .map(|(path, _)| path.clone())
        .collect();
    for path in gone {
        paths.remove(&path);
    }
}

/// The path of the module, after links.
fn choose(paths: &BTreeMap<String, LayerEntry>, wanted: Option<&str>) -> Result<String, Error> {
    if let Some(wanted) = wanted {
        let path = archive::plain(wanted.as_bytes()).and_then(|path| follow(paths, path));
        return path.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!(
                    "the image has no file `{wanted}`; its modules are: {}",
                    modules(paths)
                ),
            )
        });
    }
    if let Some(path) = follow(paths, COMPAT.to_owned()) {
        return Ok(path);
    }
    let mut names = paths
        .iter()
        .filter(|(path, entry)| is_module_name(path) && entry.kind == Kind::File);
    match (names.next(), names.next()) {
        (Some((only, _)), None) => Ok(only.clone()),
        (None, _) => {
            let message = "the archive contains no module: no file name ends with `.wasm`";
            Err(Error::new(ErrorKind::Unsupported, message).with_hint(
                "if the module of an OCI image has another name, choose it with \
                 `module: {oci: {ref: …, path: …}}`",
            ))
        }
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Ambiguous,
            format!("the archive contains several modules: {}", modules(paths)),
        )
        .with_hint(
            "choose a module of an OCI image with `module: {oci: {ref: …, path: …}}`; do not put \
             several modules into another archive",
        )),
    }
}

/// The first modules, for an error message. `none` if there are none.
fn modules(paths: &BTreeMap<String, LayerEntry>) -> String {
    let names = paths
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

/// The path of the file behind links. `None` if there is no such file, or the chain of links is too
/// long.
fn follow(paths: &BTreeMap<String, LayerEntry>, path: String) -> Option<String> {
    let mut path = path;
    for _ in 0..=MAX_LINKS {
        match &paths.get(&path)?.kind {
            Kind::File => return Some(path),
            Kind::Link(target) => path.clone_from(target),
            Kind::Other => return None,
        }
    }
    None
}

/// An image with further files is an error: the module could not open them. Other modules are
/// allowed.
fn refuse_more_files(paths: &BTreeMap<String, LayerEntry>, module: &str) -> Result<(), Error> {
    let others: Vec<&String> = paths
        .iter()
        .filter(|(path, entry)| entry.kind == Kind::File && *path != module)
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
    let message = format!(
        "the image contains {count} files beside its module ({shown}); this version cannot pass \
         them to the module"
    );
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_hint("publish the module alone, or pass the files as artifacts"))
}

/// The content of the file `wanted` in an archive. `None` if there is no such file.
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
                .with_hint("ask the operator to raise `sources.maxModuleSize`"));
            }
            // A later entry replaces an earlier entry with the same path.
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

    /// An archive of files. Content that begins with `->` makes a link.
    fn tar(files: &[(&str, &[u8])]) -> Bytes {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            // The `tar` crate refuses to write paths with `..`, so the path is written directly.
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
    fn the_only_or_the_named_module_is_found() {
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
            "the layer is the module itself"
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
    fn later_layers_replace_and_remove_paths() {
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
    fn paths_out_of_the_archive_and_circular_links_are_not_found() {
        let climbing = tar(&[("../../evil.wasm", MODULE), ("ok.wasm", b"\0asmok")]);
        assert_eq!(find(&[climbing], None).unwrap(), &b"\0asmok"[..]);
        let circle = tar(&[("a", b"->b"), ("b", b"->a")]);
        assert_eq!(kind(&[circle], Some("a")), ErrorKind::NotFound);
        let outside = tar(&[("a", b"->../../../etc/passwd")]);
        assert_eq!(kind(&[outside], Some("a")), ErrorKind::NotFound);
    }

    #[test]
    fn the_error_for_files_beside_the_module_names_them() {
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
    fn limits_on_size_and_paths_are_enforced() {
        let large = gzip(&tar(&[("app.wasm", &vec![0; 2 << 20])]));
        assert_eq!(kind(&[large], None), ErrorKind::TooLarge);
        let bomb = gzip(&tar(&[("app.wasm", MODULE), ("x", &vec![0; 9 << 20])]));
        assert_eq!(
            kind(&[bomb], None),
            ErrorKind::Protocol,
            "the archive is larger than the limit"
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
