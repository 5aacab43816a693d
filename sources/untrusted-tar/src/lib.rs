//! Reads tar archives that may be hostile, within bounds.
//!
//! A tar archive is a sequence of entries: a header of 512 bytes, then the content. An attacker can
//! abuse each part:
//!
//! - a small compressed archive expands to terabytes (a decompression bomb);
//! - an archive has millions of empty entries;
//! - the header of an entry announces a name of a gigabyte, which is read into memory;
//! - a sparse file has holes of any size, which take no space in the archive;
//! - the map of a sparse file has overlapping segments, or millions of them;
//! - a name or a link leads out of the directory that the archive is unpacked to.
//!
//! The reader knows the archives of V7, POSIX (with PAX), GNU tar and star, and all forms of sparse
//! files that GNU tar, bsdtar and star write. It refuses an entry whose content would be wrong
//! because of an extension that it does not know. The error names the extension.
//!
//! [`TarReader`] calls a closure with each [`Entry`]. It counts what it reads against a [`Budget`]
//! of the caller, and it limits headers and the expansion ratio. [`GzipReader`] decompresses an
//! archive. [`plain_path`], [`resolve_link`] and [`leads_out`] check names and links. The crate
//! writes nothing to a disk: the caller decides what an entry becomes.
//!
//! ```
//! # use wasm_workflow_untrusted_tar as untrusted_tar;
//! use std::io::Read;
//! use untrusted_tar::{Bounds, Error, Kind, TarReader};
//!
//! # let mut builder = tar::Builder::new(Vec::new());
//! # let mut header = tar::Header::new_gnu();
//! # header.set_size(5);
//! # builder.append_data(&mut header, "./greeting", &b"hello"[..]).unwrap();
//! # let archive = builder.into_inner().unwrap();
//! let mut bounds = Bounds { entries: 100, archive_bytes: 1 << 20, content_bytes: 1 << 20 };
//! let mut found = Vec::new();
//! TarReader::new(&archive[..], &mut bounds).for_each(|entry| {
//!     if entry.kind() == Kind::File {
//!         let mut text = String::new();
//!         entry.read_to_string(&mut text)?;
//!         found.push((entry.path()?, text));
//!     }
//!     Ok::<(), Error>(())
//! })?;
//! assert_eq!(found, [("greeting".to_owned(), "hello".to_owned())]);
//! # Ok::<(), Error>(())
//! ```

mod bounds;
mod content;
mod error;
mod gzip;
mod header;
mod member;
mod meter;
mod path;
mod pax;
mod reader;
#[cfg(test)]
mod reader_tests;
mod sparse;
#[cfg(test)]
mod sparse_tests;

pub use bounds::{Bounds, Budget, LimitExceeded};
pub use error::{Error, ErrorKind};
pub use gzip::{GzipReader, skip_zeros};
pub use header::is_header;
pub use member::Kind;
pub use meter::{ByteCount, ContentReader, CountingReader, ExpansionLimit, Meter};
pub use path::{leads_out, plain_path, resolve_link};
pub use reader::{Entry, TarReader, Trailer};
