//! `cache list` and `cache prune`

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::json;
use sources::store::Store;

use super::settings::Common;
use super::{Exit, Failure, output};
use crate::units::ByteSize;

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// List the references in the store, with the sizes and digests of what they resolved to
    List(List),
    /// Remove what was not used for longest
    Prune(Prune),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// How much may stay; 0 for nothing [default: `sources.maxStore` of the configuration]
    #[arg(long, value_name = "BYTES")]
    max_size: Option<ByteSize>,
    #[command(flatten)]
    common: Common,
}

impl CacheCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::List(List { json, common }) => {
                let store = store(&common)?.0;
                output::data(&if json { list_json(&store) } else { list_text(&store) });
            }
            Self::Prune(Prune { max_size, common }) => {
                let (store, limit) = store(&common)?;
                let removed = store.prune(max_size.map_or(limit, |size| size.0));
                let (files, bytes, left) = (removed.files, removed.bytes, store.bytes());
                output::say(&format!("removed {files} files, {bytes} bytes; {left} bytes are left"));
            }
        }
        Ok(Exit::Succeeded)
    }
}

/// The store of `run` and its like, and the bytes that it may have.
fn store(common: &Common) -> Result<(Store, u64), Failure> {
    let config = common.load()?;
    Ok((common.directories(false)?.store(&config), config.sources.max_store.0))
}

fn list_json(store: &Store) -> String {
    format!("{:#}\n", json!({"references": store.list(), "bytes": store.bytes()}))
}

fn list_text(store: &Store) -> String {
    let mut text = String::new();
    for stored in store.list() {
        let missing = if stored.complete { "" } else { " (incomplete)" };
        let _ = writeln!(text, "{}  {} bytes  {}{missing}", stored.reference.redacted(), stored.bytes, stored.artifact);
    }
    let _ = writeln!(text, "{} bytes in all", store.bytes());
    text
}
