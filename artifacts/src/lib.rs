//! Where artifacts are kept, and how they get from there into a step's directory and back.
//!
//! An [`ArtifactStore`] keeps objects under keys, as S3 does; a directory artifact is every object below a prefix.
//! [`transfer`] moves files and directories between a store and a directory that nothing can leave by a link: it streams,
//! and holds no whole object in memory.

pub mod directory;
pub mod error;
pub mod location;
pub mod store;
pub mod transfer;

pub use directory::DirectoryStore;
pub use error::{Error, ErrorKind};
pub use location::{Location, Repository};
pub use store::{ArtifactStore, Body, Object};
