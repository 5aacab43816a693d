//! `push`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sources::oci::push::{Interfaces, Publication};
use sources::reference::OciReference;
use sources::{Reference, Requester};

use super::run::pair;
use super::settings::{self, Common};
use super::{Exit, Failure, output};
use crate::runtime;

#[derive(Debug, Args)]
pub(super) struct Push {
    /// The module's file
    file: PathBuf,
    /// Where to: oci://HOST/REPOSITORY:TAG
    reference: String,
    /// An annotation of the manifest, such as org.opencontainers.image.source=https://…; repeatable
    #[arg(long = "annotation", value_name = "NAME=VALUE", value_parser = pair)]
    annotations: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
}

impl Push {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let registry = self.reference.split_once('/').map(|(host, _)| host);
        let names_one =
            registry.is_some_and(|host| host.contains(['.', ':']) || host == "localhost");
        let reference = match settings::reference(&self.reference) {
            Err(failure) if names_one => return Err(failure),
            reference => reference.ok(),
        };
        let oci = reference
            .as_ref()
            .and_then(Reference::as_kind::<OciReference>);
        // A module is published where the user says, and never on Docker Hub by default.
        if let Some(oci) = oci.filter(|_| !names_one) {
            return Err(Failure::usage(format!(
                "`{}` names no registry\nhint: that would be oci://{oci}",
                self.reference
            )));
        }
        let is_tag = |oci: &&OciReference| oci.digest().is_none() && oci.select().is_none();
        let reference = oci.filter(is_tag).ok_or_else(|| {
            Failure::usage(format!(
                "`{}` is not a tag in a registry, oci://HOST/REPOSITORY:TAG",
                self.reference
            ))
        })?;
        let publication = self.publication()?;
        let config = self.common.start(Some("off"))?;
        let digest = settings::runtime()?.block_on(async {
            let (kubernetes, directories) = (
                self.common.kubernetes().await?,
                self.common.directories(false)?,
            );
            let sources =
                self.common
                    .sources(&config, &directories, kubernetes, true, Arc::new(()))?;
            let pushed = sources
                .push(reference, &publication, &Requester::default())
                .await;
            pushed
                .map_err(|error| Failure::from(error.context(format_args!("`oci://{reference}`"))))
        })?;
        output::say(&format!(
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

    /// Now; or what the annotation says, or `SOURCE_DATE_EPOCH` (<https://reproducible-builds.org/specs/source-date-epoch/>), so that the same module has the
    /// same digest again.
    fn created(&self) -> Result<String, Failure> {
        let annotation = self
            .annotations
            .iter()
            .find(|(name, _)| name == "org.opencontainers.image.created");
        if let Some((_, created)) = annotation {
            return Ok(created.clone());
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

    /// What is not WebAssembly is not published.
    fn publication(&self) -> Result<Publication, Failure> {
        let file = self.file.display();
        let module = std::fs::read(&self.file)
            .map_err(|error| Failure::usage(format!("`{file}`: {error}")))?;
        let inspection = runtime::inspect(&module)
            .map_err(|error| Failure::error(format!("`{file}`: {error}")))?;
        let interfaces = Interfaces {
            exports: inspection.exports,
            imports: inspection.imports,
        };
        Ok(Publication {
            module: module.into(),
            created: self.created()?,
            component: inspection.component.then_some(interfaces),
            annotations: self.annotations.iter().cloned().collect::<BTreeMap<_, _>>(),
        })
    }
}
