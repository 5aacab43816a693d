//! Chooses the manifest of an index, and the layer of a manifest, that has the module.
//!
//! | layout | recognised by | module |
//! |---|---|---|
//! | CNCF artifact, `wasm-to-oci`, `wasme`, runwasi, oras with a type | one layer with a WebAssembly media type | that layer |
//! | oras without a type | a layer with a title that ends in `.wasm` | that layer |
//! | Spin application | a layer with the description of the application | the layer of one component |
//! | image | layers that are tar archives | a file in the layers |
//!
//! Media types are only hints. The real format of a layer is detected after the download. Several
//! candidates are an error that lists them.

use crate::package::is_module_name;
use crate::reference::Select;
use crate::{Error, ErrorKind};

use super::manifest::{Descriptor, INDEX_TYPES, Manifest};

/// Media types of layers that are a module, without the suffix for the compression.
const MODULE_TYPES: [&str; 6] = [
    // CNCF: https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/
    CNCF_MODULE,
    // wasm-to-oci, Spin, Kubewarden
    "application/vnd.wasm.content.layer.v1+wasm",
    // wasme
    "application/vnd.module.wasm.content.layer.v1+wasm",
    // runwasi, new and old
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.w3c.wasm.module.v1+wasm",
    "application/vnd.w3c.wasm.component.v1+wasm",
];
const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
pub(super) const CNCF_MODULE: &str = "application/wasm";
pub(super) const CNCF_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The annotation of `BuildKit`'s attestation manifests, which are not images: key and value.
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
/// `platform.os` of the supported platforms, best first.
const PLATFORMS: [&str; 3] = ["wasip2", "wasip1", "wasi"];

/// The place of the module in a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The module is this layer.
    Layer(Descriptor),
    /// The module is a file in the layers of an image.
    Image,
    /// The module is a component of a Spin application. This layer has the description of the
    /// application.
    Spin(Descriptor),
}

/// The result of a search in the entries of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Child<'a> {
    /// This entry is for WebAssembly.
    Chosen(&'a Descriptor),
    /// No entry is known to be for WebAssembly. These indexes among the entries name no platform,
    /// so their own entries must be searched.
    Indexes(Vec<&'a Descriptor>),
}

/// Chooses the entry of an index that is for WebAssembly: a manifest or another index.
pub(super) fn child(children: &[Descriptor]) -> Result<Child<'_>, Error> {
    let real: Vec<&Descriptor> = children
        .iter()
        .filter(|child| !is_attestation(child))
        .collect();
    for os in PLATFORMS {
        let mut fitting = real.iter().filter(|child| {
            child.platform.as_ref().is_some_and(|platform| {
                platform.os == os && platform.architecture.starts_with("wasm")
            })
        });
        match (fitting.next(), fitting.next()) {
            (Some(child), None) => return Ok(Child::Chosen(child)),
            (Some(_), Some(_)) => {
                return Err(ambiguous(
                    &format!("the index has several manifests for `{os}`"),
                    &real,
                ));
            }
            (None, _) => {}
        }
    }
    let has_no_platform = |child: &&Descriptor| {
        let platform = child.platform.as_ref();
        platform.is_none_or(|platform| platform.os.is_empty() && platform.architecture.is_empty())
    };
    let unlabelled: Vec<&Descriptor> = real.iter().copied().filter(has_no_platform).collect();
    let is_index = |child: &&Descriptor| INDEX_TYPES.contains(&&*child.media_type);
    let indexes: Vec<&Descriptor> = unlabelled.iter().copied().filter(is_index).collect();
    match (indexes.as_slice(), unlabelled.as_slice(), real.as_slice()) {
        ([_, ..], _, _) => return Ok(Child::Indexes(indexes)),
        // The platform in the index is ignored: the only manifest may be labelled wrongly.
        ([], [only], _) | ([], _, [only]) => return Ok(Child::Chosen(only)),
        ([], _, []) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the index has no manifests",
            ));
        }
        _ => {}
    }
    let platform = |child: &&Descriptor| match &child.platform {
        Some(platform) => format!("{}/{}", platform.os, platform.architecture),
        None => "unknown".to_owned(),
    };
    let platforms = real.iter().map(platform).collect::<Vec<_>>().join(", ");
    let message =
        format!("the index has no manifest for WebAssembly; its platforms are: {platforms}");
    Err(Error::new(ErrorKind::Unsupported, message).with_hint(
        "publish a manifest for `wasip1/wasm`, or name a manifest by its digest, `…@sha256:…`",
    ))
}

fn is_attestation(child: &Descriptor) -> bool {
    let (key, value) = ATTESTATION;
    child.annotations.get(key).is_some_and(|kind| kind == value)
        || child
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
}

/// Chooses the layer or layers that have the module. `select` is the choice of the reference.
pub(super) fn layer(manifest: &Manifest, select: Option<&Select>) -> Result<Choice, Error> {
    let layers = &manifest.layers;
    match select {
        Some(Select::Path(path)) if !layers.iter().any(|layer| is_archive(&layer.media_type)) => {
            let message = format!("the artifact has no file `{path}`: it is not an image");
            Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("leave out `path`, or choose a `layer`"))
        }
        Some(Select::Path(_)) => Ok(Choice::Image),
        Some(Select::Layer(wanted)) => named_layer(layers, wanted),
        None => only_module(manifest),
    }
}

/// The layer with this digest, title or number; or the component of a Spin application.
fn named_layer(layers: &[Descriptor], wanted: &str) -> Result<Choice, Error> {
    match (named(layers, wanted), spin_application(layers)) {
        (Some(layer), _) => Ok(Choice::Layer(layer.clone())),
        (None, Some(application)) => Ok(Choice::Spin(application.clone())),
        (None, None) => {
            let message = format!(
                "the artifact has no layer `{wanted}`; its layers are: {}",
                listed(layers)
            );
            Err(Error::new(ErrorKind::NotFound, message))
        }
    }
}

/// The only layer that is a module, or the layers of an image.
fn only_module(manifest: &Manifest) -> Result<Choice, Error> {
    let layers = &manifest.layers;
    let modules: Vec<&Descriptor> = layers
        .iter()
        .filter(|layer| is_module(layer, manifest))
        .collect();
    match (modules.as_slice(), spin_application(layers)) {
        ([module], _) => Ok(Choice::Layer((*module).clone())),
        ([], _) if layers.iter().any(|layer| is_archive(&layer.media_type)) => Ok(Choice::Image),
        ([], _) => {
            let types: Vec<&str> = layers
                .iter()
                .map(|layer| layer.media_type.as_str())
                .collect();
            let found = if types.is_empty() {
                "none".to_owned()
            } else {
                types.join(", ")
            };
            Err(Error::new(ErrorKind::Unsupported, format!("the artifact contains no module; its layers are: {found}"))
                .with_hint("publish it with a layer of type `application/wasm`, for example with `wkg oci push`"))
        }
        (_, Some(application)) => Ok(Choice::Spin(application.clone())),
        _ if manifest.config_type() == CNCF_CONFIG => {
            let message = format!(
                "the artifact contains {} modules, but its format allows one",
                modules.len()
            );
            Err(Error::new(ErrorKind::Ambiguous, message)
                .with_hint("publish each module as an artifact of its own"))
        }
        _ => Err(ambiguous(
            &format!("the artifact contains {} modules", modules.len()),
            &modules,
        )),
    }
}

/// The layer with the description of a Spin application.
fn spin_application(layers: &[Descriptor]) -> Option<&Descriptor> {
    layers
        .iter()
        .find(|layer| layer.media_type == SPIN_APPLICATION)
}

fn is_module(layer: &Descriptor, manifest: &Manifest) -> bool {
    let plain = layer
        .media_type
        .trim_end_matches("+gzip")
        .trim_end_matches("+zstd");
    let titled = layer.title().is_some_and(is_module_name);
    let is_wasm_artifact =
        manifest.artifact_type.contains("wasm") || manifest.config_type().contains(".wasm.");
    MODULE_TYPES.contains(&plain) || titled || (is_wasm_artifact && manifest.layers.len() == 1)
}

/// Whether the media type is a tar archive of OCI or Docker, distributable or not.
fn is_archive(media_type: &str) -> bool {
    media_type.contains(".layer.") && media_type.contains(".tar")
        || media_type.contains("rootfs") && media_type.contains(".tar")
}

/// The layer with this digest, title or number.
fn named<'a>(layers: &'a [Descriptor], wanted: &str) -> Option<&'a Descriptor> {
    let by_name = layers
        .iter()
        .find(|layer| layer.digest.to_string() == wanted || layer.title() == Some(wanted));
    by_name.or_else(|| layers.get(wanted.parse::<usize>().ok()?))
}

fn listed<'a>(layers: impl IntoIterator<Item = &'a Descriptor>) -> String {
    let one = |layer: &Descriptor| match layer.title() {
        Some(title) => {
            format!(
                "{} ({}, {} bytes)",
                layer.digest,
                title.chars().take(80).collect::<String>(),
                layer.size
            )
        }
        None => format!("{} ({} bytes)", layer.digest, layer.size),
    };
    layers
        .into_iter()
        .take(10)
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

fn ambiguous(what: &str, candidates: &[&Descriptor]) -> Error {
    let message = format!("{what}: {}", listed(candidates.iter().copied()));
    Error::new(ErrorKind::Ambiguous, message)
        .with_hint("choose a layer by digest or title: `module: {oci: {ref: …, layer: …}}`")
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Platform;
    use super::*;
    use crate::Digest;

    fn blob(media_type: &str, title: Option<&str>) -> Descriptor {
        let annotations = title.map(|title| {
            (
                "org.opencontainers.image.title".to_owned(),
                title.to_owned(),
            )
        });
        Descriptor {
            artifact_type: String::new(),
            media_type: media_type.to_owned(),
            digest: Digest::of(format!("{media_type}{title:?}").as_bytes()),
            size: 9,
            annotations: annotations.into_iter().collect(),
            platform: None,
        }
    }

    fn manifest(config: &str, layers: Vec<Descriptor>) -> Manifest {
        let config = Some(blob(config, None));
        Manifest {
            artifact_type: String::new(),
            config,
            layers,
        }
    }

    fn for_platform(os: &str, architecture: &str) -> Descriptor {
        let platform = Some(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
        });
        Descriptor {
            platform,
            ..blob(&format!("{os}/{architecture}"), None)
        }
    }

    #[test]
    fn the_module_is_found_in_every_layout() {
        let types = MODULE_TYPES.iter().map(|name| (*name).to_owned());
        for media_type in types.chain([
            "application/wasm+gzip".to_owned(),
            "application/wasm+zstd".to_owned(),
        ]) {
            let config = blob("application/vnd.module.wasm.config.v1+json", None);
            let module = blob(&media_type, None);
            let choice = layer(
                &manifest("application/octet-stream", vec![config, module.clone()]),
                None,
            )
            .unwrap();
            assert_eq!(choice, Choice::Layer(module), "{media_type}");
        }
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let oras = blob(tar, Some("m.wasm"));
        assert_eq!(
            layer(&manifest("x", vec![oras.clone()]), None).unwrap(),
            Choice::Layer(oras)
        );
        for archive in [
            tar,
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert_eq!(
                layer(&manifest("x", vec![blob(archive, None)]), None).unwrap(),
                Choice::Image
            );
        }
        let unknown = blob("application/octet-stream", None);
        let typed = Manifest {
            artifact_type: "application/vnd.wasm.component.v1+wasm".to_owned(),
            ..manifest("x", vec![unknown.clone()])
        };
        assert_eq!(layer(&typed, None).unwrap(), Choice::Layer(unknown));
    }

    #[test]
    fn several_modules_are_an_error_unless_a_layer_is_chosen() {
        let a = blob("application/wasm", Some("a.wasm"));
        let b = blob("application/wasm", Some("b.wasm"));
        let two = manifest("x", vec![a.clone(), b.clone()]);
        let error = layer(&two, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous);
        assert!(
            error.to_string().contains("a.wasm")
                && error.to_string().contains(&b.digest.to_string()),
            "{error}"
        );
        for wanted in ["b.wasm", "1", &b.digest.to_string()] {
            let select = Select::Layer(wanted.to_owned());
            assert_eq!(
                layer(&two, Some(&select)).unwrap(),
                Choice::Layer(b.clone()),
                "{wanted}"
            );
        }
        assert_eq!(
            layer(&two, Some(&Select::Layer("c".to_owned())))
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            layer(&manifest(CNCF_CONFIG, vec![a.clone(), b.clone()]), None)
                .unwrap_err()
                .kind(),
            ErrorKind::Ambiguous
        );
        let application = blob(SPIN_APPLICATION, None);
        assert_eq!(
            layer(&manifest("x", vec![application.clone(), a, b]), None).unwrap(),
            Choice::Spin(application)
        );
        assert_eq!(
            layer(&manifest("x", vec![]), None).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        let p1 = for_platform("wasip1", "wasm");
        let p2 = for_platform("wasip2", "wasm");
        let linux = for_platform("linux", "amd64");
        let attestation = for_platform("unknown", "unknown");
        assert_eq!(
            child(&[linux.clone(), p1.clone(), p2.clone(), attestation.clone()]).unwrap(),
            Child::Chosen(&p2)
        );
        let old = for_platform("wasi", "wasm32");
        assert_eq!(
            child(&[linux.clone(), old.clone()]).unwrap(),
            Child::Chosen(&old)
        );
        assert_eq!(
            child(&[linux.clone(), attestation]).unwrap(),
            Child::Chosen(&linux),
            "the only manifest is chosen although its platform is wrong"
        );
        let error = child(&[linux.clone(), for_platform("linux", "arm64")]).unwrap_err();
        assert!(
            error.to_string().contains("linux/amd64, linux/arm64"),
            "{error}"
        );
        assert_eq!(
            child(&[p1.clone(), Descriptor { size: 10, ..p1 }])
                .unwrap_err()
                .kind(),
            ErrorKind::Ambiguous
        );
        assert_eq!(child(&[]).unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn indexes_and_manifests_without_a_platform_are_considered() {
        let linux = for_platform("linux", "amd64");
        let wasm = for_platform("wasip1", "wasm");
        let index = blob(INDEX_TYPES[0], None);
        let list = blob(INDEX_TYPES[1], None);
        let children = [linux.clone(), index.clone(), list.clone()];
        assert_eq!(
            child(&children).unwrap(),
            Child::Indexes(vec![&index, &list])
        );
        assert_eq!(
            child(&[index.clone(), wasm.clone()]).unwrap(),
            Child::Chosen(&wasm),
            "an entry for WebAssembly comes first"
        );
        let nested = Descriptor {
            media_type: INDEX_TYPES[0].to_owned(),
            ..wasm
        };
        assert_eq!(
            child(&[index, nested.clone()]).unwrap(),
            Child::Chosen(&nested)
        );
        let plain = blob("application/vnd.oci.image.manifest.v1+json", None);
        assert_eq!(
            child(&[linux.clone(), plain.clone()]).unwrap(),
            Child::Chosen(&plain),
            "the only manifest without a platform"
        );
        let other = blob("x", None);
        assert!(child(&[linux, plain, other]).is_err());
    }
}
