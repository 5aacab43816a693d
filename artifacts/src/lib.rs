//! Artifacts of workflow steps: stores for them, and transfers between a store and the directory of
//! a step.
//!
//! The crate has three layers:
//!
//! - An [`ArtifactStore`] keeps objects under keys, as S3 does. There are stores for S3 buckets
//!   ([`s3`]), for single URLs ([`http_store`]) and for directories ([`DirectoryStore`]).
//!   [`Stores`] opens the store of a [`Location`], and keeps it open for a minute.
//! - [`transfer`] moves a file or a directory between a store and the directory of a step. A
//!   directory is one archive ([`archive`]), or one object for each file. A transfer streams, and
//!   is repeated if the network fails.
//! - A [`quota::Quota`] limits the bytes and files that all inputs of a step use together.
//!
//! The types of locations and archives have the fields of Argo's own types, and transfers follow
//! Argo's executor.
//!
//! The crate does not know Kubernetes. The program that uses it implements [`ArtifactHost`], which
//! supplies Secrets and HTTP clients. All requests to servers that workflows name go through these
//! clients, so the program decides which addresses are allowed. The rules for redirects and content
//! codings are those of the crate `net`.
//!
//! Stored data is not trusted. The step's directory is a [`cap_std::fs::Dir`], which no path and no
//! link leaves. Archives are read by the crate `untrusted-tar`, with limits on their size, their
//! entries and their expansion ratio.
//!
//! # Example
//!
//! One step writes a directory, and the next step reads it:
//!
//! ```
//! use std::sync::Arc;
//!
//! use cap_std::ambient_authority;
//! use cap_std::fs::Dir;
//! use wasm_workflow_artifacts::archive::{Pack, Unpack};
//! use wasm_workflow_artifacts::quota::{Bounds, Quota};
//! use wasm_workflow_artifacts::transfer::{Download, Upload, download, upload};
//! use wasm_workflow_artifacts::DirectoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stored = tempfile::tempdir()?;
//! let store = DirectoryStore::open(stored.path()).await?;
//!
//! // The first step left `out/report.txt`.
//! let first = tempfile::tempdir()?;
//! let first = Arc::new(Dir::open_ambient_dir(first.path(), ambient_authority())?);
//! first.create_dir("out")?;
//! first.write("out/report.txt", "42 files")?;
//! let what = Upload { key: "wf/out.tgz", path: "out", pack: Pack::Tar(6) };
//! let uploaded = upload(&store, what, &first, 1 << 20).await?;
//! assert_eq!(uploaded.bytes, 8);
//!
//! // The second step gets the directory as `in`. `Detect` unpacks gzipped tar archives.
//! let second = tempfile::tempdir()?;
//! let second = Arc::new(Dir::open_ambient_dir(second.path(), ambient_authority())?);
//! let quota = Quota::new(Bounds { bytes: 1 << 20, entries: 100 });
//! let what = Download {
//!     key: "wf/out.tgz",
//!     path: "in",
//!     seen_at: "/in",
//!     unpack: Unpack::Detect,
//!     mode: None,
//! };
//! download(&store, &what, &second, &quota).await?;
//! assert_eq!(second.read_to_string("in/report.txt")?, "42 files");
//! # Ok(())
//! # }
//! ```

pub mod archive;
mod blocking_io;
pub mod directory_store;
pub mod error;
pub mod host;
pub mod http_store;
pub mod location;
mod mkdir;
pub mod quota;
pub mod repository;
mod retry;
pub mod s3;
pub mod store;
pub mod transfer;

pub use directory_store::DirectoryStore;
pub use error::{Error, ErrorKind};
pub use host::{ArtifactHost, HttpClient, SecretKeySelector, TlsSettings};
pub use location::{Location, OperatorBucket, Repository, Stores};
pub use repository::{ArtifactRepository, RepositoryDestination};
pub use store::{ArtifactStore, Body, Content, Object};
