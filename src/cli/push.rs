//! `push`

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sources::oci::push::{Interfaces, Publication};
use sources::reference::OciReference;
use sources::{Reference, Requester};

use super::arguments::{NameValue, name_value, unique};
use super::inspect;
use super::settings::{self, Base, Cache, Common, Registries};
use super::{Exit, Failure, output};
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Push {
    /// File with the module
    file: PathBuf,
    /// Destination: oci://HOST/REPOSITORY:TAG
    reference: String,
    /// Annotation of the manifest, such as org.opencontainers.image.source=https://…; repeatable
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = name_value)]
    annotations: Vec<NameValue>,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    registries: Registries,
}

impl Push {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let reference = self.destination()?;
        let publication = self.publication()?;
        let common = Common::of(self.base, self.registries, Cache::default());
        let config = common.start(Some("off"))?;
        let digest = settings::runtime()?.block_on(async {
            let kubernetes = common.kubernetes()?;
            let directories = common.directories(false)?;
            let sources = common.sources(&config, &directories, kubernetes, true, Arc::new(()))?;
            let pushed = sources
                .push(&reference, &publication, &Requester::default())
                .await;
            pushed
                .map_err(|error| Failure::from(error.context(format_args!("`oci://{reference}`"))))
        })?;
        output::eprint(&format!(
            "pushed {} bytes to oci://{reference}",
            publication.module.len()
        ));
        output::data(&format!(
            "oci://{}/{}@{digest}\n",
            reference.host(),
            reference.repository()
        ));
        Ok(Exit::Succeeded)
    }

    /// The tag to push to. It must name its registry: without one, a reference means Docker Hub, and
    /// a module must not be published there by mistake.
    fn destination(&self) -> Result<OciReference, Failure> {
        let text = &self.reference;
        let names_registry = text
            .split_once('/')
            .is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
        let reference = match settings::reference(text) {
            Err(failure) if names_registry => return Err(failure),
            reference => reference.ok(),
        };
        let oci = reference
            .as_ref()
            .and_then(Reference::as_kind::<OciReference>);
        match oci {
            Some(oci) if !names_registry => {
                let failure = Failure::usage(format!("`{text}` names no registry"));
                Err(failure.with_hint(format!("the full reference would be oci://{oci}")))
            }
            Some(oci) if oci.digest().is_none() && oci.select().is_none() => Ok(oci.clone()),
            _ => Err(Failure::usage(format!(
                "`{text}` must name a tag in a registry, as in oci://HOST/REPOSITORY:TAG"
            ))),
        }
    }

    /// Time of creation: the annotation if there is one, else `SOURCE_DATE_EPOCH`, else now.
    ///
    /// With one of the first two, the same module gets the same digest again
    /// (<https://reproducible-builds.org/specs/source-date-epoch/>).
    fn created(&self) -> Result<String, Failure> {
        let annotation = self
            .annotations
            .iter()
            .find(|annotation| annotation.name == "org.opencontainers.image.created");
        if let Some(annotation) = annotation {
            return Ok(annotation.value.clone());
        }
        let Ok(seconds) = std::env::var("SOURCE_DATE_EPOCH") else {
            return Ok(jiff::Timestamp::now().to_string());
        };
        let time = seconds
            .parse()
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        let time = time.ok_or_else(|| {
            Failure::usage("SOURCE_DATE_EPOCH is not a number of seconds since 1970")
        })?;
        Ok(time.to_string())
    }

    /// The content of the manifest. A file that is not WebAssembly is an error.
    fn publication(&self) -> Result<Publication, Failure> {
        let file = self.file.display();
        let module = std::fs::read(&self.file)
            .map_err(|error| Failure::usage(format!("`{file}`: {error}")))?;
        let inspection = runtime::inspect(&module).map_err(|error| {
            let hint = match is_packed(&self.file, &module) {
                true => "unpack it first: `push` reads a `.wasm` file",
                false => error.hint(),
            };
            Failure::error(format!("`{file}`: {error}")).with_hint(hint)
        })?;
        if let Err(error) = inspect::runs(&inspection, &module) {
            output::eprint(&format!(
                "warning: the executor cannot run `{file}`: {error}\nhint: {}",
                error.hint()
            ));
        }
        let interfaces = Interfaces {
            exports: inspection.export_names(),
            imports: inspection.import_names(),
        };
        Ok(Publication {
            module: module.into(),
            created: self.created()?,
            component: inspection.component.then_some(interfaces),
            annotations: unique("--annotation", &self.annotations)?,
        })
    }
}

/// Whether a file is an archive or is compressed, by its name or its first bytes.
fn is_packed(file: &Path, content: &[u8]) -> bool {
    const EXTENSIONS: [&str; 6] = ["gz", "tgz", "tar", "zip", "zst", "xz"];
    const GZIP: &[u8] = b"\x1f\x8b";
    const ZIP: &[u8] = b"PK\x03\x04";
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
    let extension = file.extension().and_then(OsStr::to_str);
    let by_name = extension.is_some_and(|extension| {
        EXTENSIONS
            .iter()
            .any(|known| known.eq_ignore_ascii_case(extension))
    });
    by_name
        || [GZIP, ZIP, ZSTD]
            .iter()
            .any(|magic| content.starts_with(magic))
}
