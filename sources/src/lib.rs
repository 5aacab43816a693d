//! Where modules come from.
//!
//! A workflow names a module by a [`Reference`]; a [`Source`] understands one kind of reference; [`Sources`] turns
//! a reference into verified bytes:
//!
//! ```text
//! Reference ── resolve ──▶ Resolved (what exactly, by digest) ── fetch ──▶ Module (bytes that have that digest)
//!                 │                                                │
//!            tag → digest, cheap            store hit, or open_unverified → bound → hash → store → unpack
//! ```
//!
//! Sources neither hash, cache, unpack, retry nor judge: all of that is done once, in [`Sources`], so that a new source cannot
//! get it wrong. No byte leaves this crate before its digest was checked.
//!
//! | written as | source |
//! |---|---|
//! | `oci://host/repository:tag`, `oci://host/repository@sha256:…` | [`oci`] |
//! | `https://host/path#sha256=…` | [`http`] |
//! | `wapm://namespace/name@version` | [`wasmer`] |
//! | `bindle://name/version` | [`bindle`] |
//! | `wkg:namespace:name@version` | [`wkg`], which leads to [`oci`] |
//! | `file:///path` | [`file`](mod@file) |

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
