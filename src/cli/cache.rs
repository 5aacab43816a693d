//! `cache list`, `prune`, `export` and `import`

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use sources::PullPolicy;
use sources::store::Store;

use super::fetcher::Fetcher;
use super::settings::{self, Base, Cache, Common, Registries};
use super::{Exit, Failure, output};
use crate::config::Config;
use crate::text::units::ByteSize;

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// List the references in the store, with size and digest of each
    List(List),
    /// Remove the least recently used modules
    Prune(Prune),
    /// Write modules into a file, for a machine without access to registries
    Export(Export),
    /// Read modules from a file of `cache export`; which reference names which module is not verified
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Size of the store afterwards; 0 removes everything [default: `sources.maxStoreSize` of the configuration]
    #[arg(long, value_name = "BYTES")]
    max_size: Option<ByteSize>,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// Modules to export; modules that are not in the store are fetched
    #[arg(required = true)]
    references: Vec<String>,
    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    registries: Registries,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// File to read
    file: PathBuf,
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    cache: Cache,
}

impl CacheCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::List(List { json, base, cache }) => {
                let (store, _) = store(&common(base, cache))?;
                output::data(&if json {
                    list_json(&store)
                } else {
                    list_text(&store)
                });
            }
            Self::Prune(Prune {
                max_size,
                base,
                cache,
            }) => {
                let (store, config) = store(&common(base, cache))?;
                let removed = store.prune(max_size.unwrap_or(config.sources.max_store_size).0);
                output::eprint(&format!(
                    "files removed: {}, {} bytes; {} bytes are left",
                    removed.files,
                    removed.bytes,
                    store.bytes()
                ));
            }
            Self::Export(export) => export.run()?,
            Self::Import(Import { file, base, cache }) => {
                let (store, config) = store(&common(base, cache))?;
                for resolved in store.import(&file, config.sources.max_module_size.0)? {
                    output::data(&format!(
                        "{}  {}\n",
                        resolved.reference.redacted(),
                        resolved.artifact
                    ));
                }
            }
        }
        Ok(Exit::Succeeded)
    }
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let common = Common::of(self.base, self.registries, self.cache);
        let (store, config) = store(&common)?;
        let references = self
            .references
            .iter()
            .map(|text| settings::reference(text))
            .collect::<Result<Vec<_>, _>>()?;
        let fetcher = Fetcher::new(&common, &config)?;
        let mut resolved = Vec::new();
        for reference in references {
            let found = fetcher.fetch(reference, PullPolicy::IfNotPresent)?.resolved;
            if fetcher.is_local(&found.origin) {
                let message = format!(
                    "`{}` is on this machine already: copy the file",
                    found.reference
                );
                return Err(Failure::usage(message));
            }
            resolved.push((*found).clone());
        }
        drop(fetcher);
        store.export(&resolved, &self.output)?;
        output::eprint(&format!(
            "modules in {}: {}",
            self.output.display(),
            resolved.len()
        ));
        Ok(())
    }
}

/// The flags of a command that sends no requests.
fn common(base: Base, cache: Cache) -> Common {
    Common::of(base, Registries::default(), cache)
}

/// The store of the current user, and the configuration in force.
fn store(common: &Common) -> Result<(Store, Config), Failure> {
    let config = common.start(Some("off"))?;
    Ok((common.directories(false)?.store(&config), config))
}

fn list_json(store: &Store) -> String {
    format!(
        "{:#}\n",
        json!({"references": store.list(), "bytes": store.bytes()})
    )
}

fn list_text(store: &Store) -> String {
    let mut text = String::new();
    for stored in store.list() {
        let missing = if stored.complete { "" } else { " (incomplete)" };
        let _ = writeln!(
            text,
            "{}  {} bytes  {}{missing}",
            stored.reference.redacted(),
            stored.bytes,
            stored.artifact
        );
    }
    let _ = writeln!(text, "{} bytes in all", store.bytes());
    text
}
