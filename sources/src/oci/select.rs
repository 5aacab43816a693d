//! Which of an index's children, and which of a manifest's layers, is the module.
//!
//! | layout | told by |
//! |---|---|
//! | CNCF artifact, `wasm-to-oci`, `wasme`, runwasi, oras with a type | one layer with a WebAssembly type |
//! | oras without a type | a layer whose title ends in `.wasm` |
//! | Spin application | a layer with the application's description: the module is one of its components' |
//! | image | layers that are tar archives: the module is a file in them |
//!
//! Media types are hints, nothing more: what a layer really is shows when it is there. More than one candidate is an error
//! that lists them, and never a guess.

use crate::package::is_module_name;
use crate::reference::Select;
use crate::{Error, ErrorKind};

use super::manifest::{Descriptor, Manifest};

/// Layers that are a module as they are. Suffixes for compression are cut off before.
const MODULE_TYPES: [&str; 6] = [
    // CNCF: https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/
    CNCF_MODULE,
    // wasm-to-oci, Spin, Kubewarden
    "application/vnd.wasm.content.layer.v1+wasm",
    // wasme
    "application/vnd.module.wasm.content.layer.v1+wasm",
    // runwasi, now and before
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.w3c.wasm.module.v1+wasm",
    "application/vnd.w3c.wasm.component.v1+wasm",
];
const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
pub(super) const CNCF_MODULE: &str = "application/wasm";
pub(super) const CNCF_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// `vnd.docker.reference.type` of build attestations, which are no images.
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");
/// What runs here, best first.
const PLATFORMS: [&str; 3] = ["wasip2", "wasip1", "wasi"];

/// Where the module is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This layer is it.
    Layer(Descriptor),
    /// It is a file in the layers of an image.
    Image,
    /// One of a Spin application's components, which this layer describes.
    Spin(Descriptor),
}

/// The child of an index that runs here.
pub(super) fn child(children: &[Descriptor]) -> Result<&Descriptor, Error> {
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
            (Some(child), None) => return Ok(child),
            (Some(_), Some(_)) => {
                return Err(ambiguous(
                    &format!("the index has several manifests for `{os}`"),
                    &real,
                ));
            }
            (None, _) => {}
        }
    }
    if let [only] = real.as_slice() {
        // Built for one platform, whatever its index calls it.
        return Ok(only);
    }
    let platform = |child: &&Descriptor| match &child.platform {
        Some(platform) => format!("{}/{}", platform.os, platform.architecture),
        None => "unknown".to_owned(),
    };
    let platforms = real.iter().map(platform).collect::<Vec<_>>().join(", ");
    let message = format!("the index has no manifest for WebAssembly; it is for: {platforms}");
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("publish a manifest for `wasip1/wasm`, or name one by its digest, `…@sha256:…`"))
}

fn is_attestation(child: &Descriptor) -> bool {
    let (key, value) = ATTESTATION;
    child.annotations.get(key).is_some_and(|kind| kind == value)
        || child
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown")
}

/// The layer or layers with the module.
pub(super) fn layer(manifest: &Manifest, select: Option<&Select>) -> Result<Choice, Error> {
    let layers = &manifest.layers;
    let spin = layers
        .iter()
        .find(|layer| layer.media_type == SPIN_APPLICATION);
    match select {
        Some(Select::Path(path)) if !layers.iter().any(|layer| is_archive(&layer.media_type)) => {
            let message =
                format!("there is no `{path}` in it: it is an artifact, and no image with files");
            return Err(Error::new(ErrorKind::NotFound, message)
                .hint("leave out `path`, or choose a `layer`"));
        }
        Some(Select::Path(_)) => return Ok(Choice::Image),
        Some(Select::Layer(wanted)) => {
            return match (named(layers, wanted), spin) {
                (Some(layer), _) => Ok(Choice::Layer(layer.clone())),
                (None, Some(application)) => Ok(Choice::Spin(application.clone())),
                (None, None) => {
                    let message = format!(
                        "the artifact has no layer `{wanted}`; it has: {}",
                        listed(layers)
                    );
                    Err(Error::new(ErrorKind::NotFound, message))
                }
            };
        }
        None => {}
    }
    let modules: Vec<&Descriptor> = layers
        .iter()
        .filter(|layer| is_module(layer, manifest))
        .collect();
    match (modules.as_slice(), spin) {
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
            Err(Error::new(ErrorKind::Unsupported, format!("the artifact holds no module; its layers are: {found}"))
                .hint("publish it with a layer of type `application/wasm`, for example with `wkg oci push`"))
        }
        (_, Some(application)) => Ok(Choice::Spin(application.clone())),
        _ if manifest.config_type() == CNCF_CONFIG => {
            let message = format!(
                "the artifact holds {} modules, and its format allows one",
                modules.len()
            );
            Err(Error::new(ErrorKind::Ambiguous, message)
                .hint("publish each module as an artifact of its own"))
        }
        _ => Err(ambiguous(
            &format!("the artifact holds {} modules", modules.len()),
            &modules,
        )),
    }
}

fn is_module(layer: &Descriptor, manifest: &Manifest) -> bool {
    let plain = layer
        .media_type
        .trim_end_matches("+gzip")
        .trim_end_matches("+zstd");
    let titled = layer.title().is_some_and(is_module_name);
    let said = manifest.artifact_type.contains("wasm") || manifest.config_type().contains(".wasm.");
    MODULE_TYPES.contains(&plain) || titled || (said && manifest.layers.len() == 1)
}

/// Tar archives of OCI and Docker, distributable or not.
fn is_archive(media_type: &str) -> bool {
    media_type.contains(".layer.") && media_type.contains(".tar")
        || media_type.contains("rootfs") && media_type.contains(".tar")
}

/// By digest, title or number.
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
        .hint("choose one with `module: {oci: {ref: …, layer: …}}`, by digest or title")
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
    fn every_layout_has_its_layer() {
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
    fn several_are_an_error_unless_one_is_chosen() {
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
    fn the_best_platform_of_an_index() {
        let p1 = for_platform("wasip1", "wasm");
        let p2 = for_platform("wasip2", "wasm");
        let linux = for_platform("linux", "amd64");
        let attestation = for_platform("unknown", "unknown");
        assert_eq!(
            child(&[linux.clone(), p1.clone(), p2.clone(), attestation.clone()]).unwrap(),
            &p2
        );
        let old = for_platform("wasi", "wasm32");
        assert_eq!(child(&[linux.clone(), old.clone()]).unwrap(), &old);
        assert_eq!(
            child(&[linux.clone(), attestation]).unwrap(),
            &linux,
            "the only one, mislabelled"
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
}
