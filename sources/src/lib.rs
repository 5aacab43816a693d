//! Module sources: from the reference in a workflow to the verified bytes of a WebAssembly module.
//!
//! A workflow names a module with a [`Reference`]. A [`Source`] understands one kind of reference.
//! [`Sources`] has all sources and the store, and works in two steps:
//!
//! ```text
//! Reference ── resolve ──▶ Resolved (digests) ── fetch ──▶ FetchedModule (verified bytes)
//! ```
//!
//! - **Resolve** (`resolve.rs`) finds the digest of the content that the reference names now. A tag
//!   costs one small request. The pull policy decides whether the origin is asked at all.
//! - **Fetch** (`fetch.rs`) takes the content from the store, or downloads, limits, hashes, stores
//!   and unpacks it.
//!
//! A source only talks to its origin. [`Sources`] checks the policy, verifies digests and
//! signatures, retries, stores and unpacks, once for all sources. A new source cannot skip these
//! checks. Content leaves this crate only after its digest was verified.
//!
//! | reference | source |
//! |---|---|
//! | `oci://host/repository:tag`, `oci://host/repository@sha256:…` | [`oci`] |
//! | `https://host/path#sha256=…` | [`http`] |
//! | `wapm://namespace/name@version` | [`wasmer`] |
//! | `bindle://name/version` | [`bindle`] |
//! | `wkg:namespace:name@version` | [`wkg`], which finds the package's reference in [`oci`] |
//! | `file:///path` | [`file`](mod@file) |
//!
//! The files of this crate:
//!
//! | file or folder | content |
//! |---|---|
//! | `reference/` | the kinds of references, and how each is written |
//! | `source.rs`, `source_table.rs` | the trait of a source, and the table of all sources |
//! | `resolve.rs`, `fetch.rs`, `receive.rs`, `extract.rs` | the two steps |
//! | `store/` | the content-addressed store on disk |
//! | `unpack/` | archives, layers of images, and packages |
//! | `policy.rs`, `signatures.rs`, `signer/` | the operator's rules, and signatures |
//! | `credentials/` | registry credentials from Secrets and configuration files |
//! | `mirror_fallback.rs` | the fallback from mirrors to the registry itself |
//! | `download_limits.rs` | the limits on parallel downloads |
//!
//! ```
//! use std::sync::Arc;
//!
//! use wasm_workflow_sources::store::Store;
//! use wasm_workflow_sources::{Config, Request, Requester, Sources};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let file = directory.path().join("module.wasm");
//! # std::fs::write(&file, b"\0asm\x01\0\0\0")?;
//! # let reference = format!("file://{}", file.display());
//! let store = Store::new(directory.path().join("store"));
//! // No credentials, any `file://` path, and no report of progress.
//! let sources = Sources::new(&Config::default(), store, (), true, Arc::new(()))?;
//! let requester = Requester::default();
//! let request = Request {
//!     reference: reference.parse()?,
//!     pull_policy: None,
//!     scope: "uid-of-the-workflow".to_owned(),
//!     requester: requester.clone(),
//! };
//! let resolved = sources.resolve(&request).await?;
//! let module = sources.fetch(&resolved, &requester).await?;
//! assert_eq!(module.package.module, resolved.artifact);
//! # Ok(())
//! # }
//! ```

pub mod bindle;
mod blocking;
pub mod config;
pub mod credentials;
pub mod digest;
mod download_limits;
pub mod error;
mod extract;
mod fetch;
mod fetched_module;
pub mod file;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod http;
mod inner;
mod mirror_fallback;
pub mod oci;
pub mod package;
pub mod policy;
mod pull_policy;
mod receive;
pub mod reference;
mod request;
mod resolve;
mod resolved;
mod signatures;
pub mod signer;
pub mod source;
mod source_table;
pub mod sources;
pub mod store;
#[cfg(test)]
mod toy;
mod unpack;
pub mod wasmer;
pub mod wkg;

pub use config::Config;
pub use credentials::{CredentialProvider, Requester};
pub use digest::Digest;
pub use error::{Error, ErrorKind};
pub use fetched_module::FetchedModule;
pub use package::{Defaults, Package};
pub use pull_policy::PullPolicy;
pub use reference::Reference;
pub use request::Request;
pub use resolved::{Ephemeral, Part, Resolved, Unpack};
pub use source::{Locator, Source};
pub use sources::Sources;
