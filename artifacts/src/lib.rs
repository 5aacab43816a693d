//! Where artifacts are kept, and how they get from there into a step's directory and back.
//!
//! An [`ArtifactStore`] keeps objects under keys, as S3 does; a directory artifact is every object below a prefix, or one archive.
//! [`transfer`] moves files and directories between a store and a directory that nothing can leave by a link: it streams,
//! and holds no whole object in memory.

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
pub use store::{ArtifactStore, Body, Object};
