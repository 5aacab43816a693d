//! Reads the manifest and the modules of a WEBC, the container format of the Wasmer registry.
//!
//! The only documentation of the format is its library (<https://github.com/wasmerio/webc>). That
//! library expects trusted containers: a few wrong bytes end the program. This reader checks every
//! length and offset before it is used. It supports versions 1 to 3, and reads atoms (modules)
//! only.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::wasmer_manifest::Manifest;
use crate::{Digest, Error, ErrorKind};

pub(super) const MAGIC: &[u8] = b"\0webc";
/// The largest manifest, in bytes. A manifest holds names and annotations.
const MAX_MANIFEST: usize = 1 << 20;
/// The most modules of a container.
const MAX_ATOMS: usize = 1000;
/// The size of the header of version 1: magic and version, kind of checksum, checksum, length of
/// the signature, signature.
pub(super) const V1_HEADER: usize = 8 + 16 + 256 + 4 + 1024;

/// A container, as far as this program reads it.
pub(super) struct Container {
    pub(super) manifest: Manifest,
    atoms: BTreeMap<String, Bytes>,
}

pub(super) fn is_webc(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Container {
    pub(super) fn read(bytes: &Bytes) -> Result<Self, Error> {
        let reader = Reader {
            bytes: bytes.clone(),
            at: MAGIC.len() + 3,
        };
        match bytes.get(MAGIC.len()..MAGIC.len() + 3) {
            Some(b"001") => Self::read_v1(bytes),
            Some(b"002") => Self::read_sections(reader, false),
            Some(b"003") => Self::read_sections(reader, true),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "the package is a WEBC of an unknown version",
            )),
        }
    }

    fn read_v1(bytes: &Bytes) -> Result<Self, Error> {
        let mut reader = Reader {
            bytes: bytes.clone(),
            at: V1_HEADER,
        };
        let length = reader.leb128()?;
        let manifest = manifest(&reader.take(length)?)?;
        let length = reader.leb128()?;
        let volume = reader.take(length)?;
        let mut volume = Reader {
            bytes: volume,
            at: 0,
        };
        let length = volume.leb128()?;
        let header = volume.take(length)?;
        let data = volume.bytes.slice(volume.at..);
        // The first level: its length in bytes, and its entries.
        let mut header = Reader {
            bytes: header,
            at: 0,
        };
        let length = header.u64()?;
        let mut entries = Reader {
            bytes: header.take(length)?,
            at: 0,
        };
        let mut atoms = Atoms::default();
        while !entries.is_empty() {
            let mut name_length = [0; 8];
            name_length[..7].copy_from_slice(&entries.take(7)?);
            let kind = entries.take(1)?[0];
            let start = entries.u64()?;
            let end = entries.u64()?;
            let name = entries.take(usize(u64::from_le_bytes(name_length))?)?;
            if kind == 1 {
                atoms.add(&name, &data, start, end)?;
            }
        }
        Ok(Self {
            manifest,
            atoms: atoms.named,
        })
    }

    fn read_sections(mut reader: Reader, hashed: bool) -> Result<Self, Error> {
        let mut manifest = None;
        let mut atoms = None;
        while !reader.is_empty() {
            let tag = reader.take(1)?[0];
            if hashed && tag != tag::INDEX {
                // The hash of the section is not verified: the digest of the file is already
                // verified.
                reader.take(32)?;
            }
            let length = reader.u64()?;
            let section = reader.take(length)?;
            match tag {
                tag::MANIFEST if manifest.is_none() => manifest = Some(self::manifest(&section)?),
                tag::ATOMS if atoms.is_none() => atoms = Some(read_atoms(section, hashed)?),
                tag::MANIFEST | tag::ATOMS => return Err(malformed("it has a section twice")),
                _ => {}
            }
        }
        let manifest = manifest.ok_or_else(|| malformed("it has no manifest"))?;
        Ok(Self {
            manifest,
            atoms: atoms.unwrap_or_default(),
        })
    }

    /// The module with this name. Its digest is verified against the manifest.
    pub(super) fn atom(&self, name: &str) -> Result<Bytes, Error> {
        let missing = || {
            Error::new(
                ErrorKind::Protocol,
                format!("the package has no module `{name}`"),
            )
        };
        let atom = self.atoms.get(name).ok_or_else(missing)?;
        let signature = self
            .manifest
            .atoms
            .get(name)
            .and_then(|declared| declared.signature.as_deref());
        if let Some(signature) = signature {
            let hash = signature
                .strip_prefix("sha256:")
                .and_then(|text| STANDARD.decode(text).ok());
            let hash = hash.ok_or_else(|| malformed("a module's signature is not a SHA-256"))?;
            let actual = Digest::of(atom);
            if hex::encode(hash) != actual.hex() {
                let message = format!(
                    "the module `{name}` in the package has the digest `{actual}`, which differs \
                     from the manifest"
                );
                return Err(Error::new(ErrorKind::DigestMismatch, message));
            }
        }
        Ok(atom.clone())
    }

    /// The names of all modules.
    pub(super) fn atoms(&self) -> impl Iterator<Item = &str> {
        self.atoms.keys().map(String::as_str)
    }
}

/// The reason for a length or an offset that is too large.
const PAST_END: &str = "a length or an offset is after the end of the file";

/// The type `Tag` of the format.
pub(super) mod tag {
    pub(in crate::unpack) const MANIFEST: u8 = 1;
    pub(in crate::unpack) const INDEX: u8 = 2;
    pub(in crate::unpack) const ATOMS: u8 = 3;
    pub(in crate::unpack) const DIRECTORY: u8 = 30;
    pub(in crate::unpack) const FILE: u8 = 31;
}

/// A volume without subdirectories: a header with a directory of files, and their data.
fn read_atoms(section: Bytes, hashed: bool) -> Result<BTreeMap<String, Bytes>, Error> {
    let mut reader = Reader {
        bytes: section,
        at: 0,
    };
    let length = reader.u64()?;
    let header = reader.take(length)?;
    let length = reader.u64()?;
    let data = reader.take(length)?;
    let mut root = Reader {
        bytes: header.clone(),
        at: 0,
    };
    if root.take(1)?[0] != tag::DIRECTORY {
        return Err(malformed("its modules are not in a directory"));
    }
    let length = root.u64()?;
    let mut entries = Reader {
        bytes: root.take(length)?,
        at: 0,
    };
    if hashed {
        // The times and the hash of the directory.
        entries.take(24 + 32)?;
    }
    let mut atoms = Atoms::default();
    while !entries.is_empty() {
        let offset = entries.u64()?;
        if hashed {
            entries.take(32)?;
        }
        let length = entries.u64()?;
        let name = entries.take(length)?;
        let mut entry = Reader {
            bytes: header.clone(),
            at: offset,
        };
        if entry.take(1)?[0] == tag::FILE {
            let start = entry.u64()?;
            let end = entry.u64()?;
            atoms.add(&name, &data, start, end)?;
        }
    }
    Ok(atoms.named)
}

/// The modules by name.
#[derive(Default)]
struct Atoms {
    named: BTreeMap<String, Bytes>,
}

impl Atoms {
    fn add(&mut self, name: &[u8], data: &Bytes, start: usize, end: usize) -> Result<(), Error> {
        let name =
            std::str::from_utf8(name).map_err(|_| malformed("a module's name is not UTF-8"))?;
        if start > end || end > data.len() {
            return Err(malformed("a module ends after the end of the file"));
        }
        if self
            .named
            .insert(name.to_owned(), data.slice(start..end))
            .is_some()
        {
            return Err(malformed("it has a module twice"));
        }
        if self.named.len() > MAX_ATOMS {
            return Err(malformed("it has too many modules"));
        }
        Ok(())
    }
}

fn manifest(bytes: &[u8]) -> Result<Manifest, Error> {
    if bytes.len() > MAX_MANIFEST {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "the package's manifest is larger than 1 MiB",
        ));
    }
    ciborium::from_reader(bytes)
        .map_err(|error| malformed("its manifest cannot be read").caused_by(error))
}

fn malformed(why: &str) -> Error {
    Error::new(
        ErrorKind::Protocol,
        format!("the package is not a valid WEBC: {why}"),
    )
}

fn usize(number: u64) -> Result<usize, Error> {
    usize::try_from(number).map_err(|_| malformed(PAST_END))
}

/// Reads bytes in order. Reading after the end is an error. Numbers are little-endian.
struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Error> {
        let end = self
            .at
            .checked_add(length)
            .filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| malformed(PAST_END))?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    /// A length or an offset.
    fn u64(&mut self) -> Result<usize, Error> {
        let mut number = [0; 8];
        number.copy_from_slice(&self.take(8)?);
        usize(u64::from_le_bytes(number))
    }

    /// A length in LEB128: 7 bits in each byte, the lowest first.
    fn leb128(&mut self) -> Result<usize, Error> {
        let mut number = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize(number);
            }
        }
        Err(malformed("a number in it is too large"))
    }
}
