//! Packs modules into a container (WEBC) for a Wasmer registry.
//!
//! ```text
//! webc-pack v1|v2|v3 MANIFEST OUT NAME=MODULE…
//! ```
//!
//! MANIFEST is JSON with `commands`, `entrypoint` and `package`. The program adds an entry to
//! `atoms` for each module.

use std::collections::BTreeMap;

use base64::Engine;
use serde_json::{Value, json};
use sha2::Digest;
use webc::metadata::Manifest;
use webc::{PathSegment, v1, v2, v3};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [version, manifest, out, modules @ ..] = arguments.as_slice() else {
        return Err("webc-pack v1|v2|v3 MANIFEST OUT NAME=MODULE…".into());
    };
    let mut atoms = BTreeMap::new();
    for module in modules {
        let (name, file) = module.split_once('=').ok_or("NAME=MODULE")?;
        atoms.insert(name.to_owned(), std::fs::read(file)?);
    }
    let mut manifest: Value = serde_json::from_str(manifest)?;
    for (name, atom) in &atoms {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(atom));
        let atom =
            json!({"kind": "https://webc.org/kind/wasm", "signature": format!("sha256:{hash}")});
        if manifest["atoms"].is_null() {
            manifest["atoms"] = json!({});
        }
        // A test can give a different entry, for example with a wrong hash.
        if manifest["atoms"][name].is_null() {
            manifest["atoms"][name] = atom;
        }
    }
    let manifest: Manifest = serde_json::from_value(manifest)?;
    let packed = match version.as_str() {
        "v1" => pack_v1(manifest, atoms)?,
        "v2" => pack_v2(&manifest, &atoms)?,
        "v3" => pack_v3(&manifest, &atoms)?,
        other => return Err(format!("`{other}` is not a version; use v1, v2 or v3").into()),
    };
    std::fs::write(out, packed)?;
    Ok(())
}

fn pack_v1(manifest: Manifest, atoms: BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let files = atoms
        .into_iter()
        .map(|(name, atom)| (v1::DirOrFile::File(name.into()), atom))
        .collect();
    let volume = v1::Volume::serialize_atoms(files);
    let atoms = v1::Volume::parse(&volume).map_err(|error| error.to_string())?;
    let webc = v1::WebC {
        version: 1,
        checksum: None,
        signature: None,
        manifest,
        atoms,
        volumes: Default::default(),
    };
    Ok(webc
        .into_bytes(v1::GenerateChecksum::Sha256)
        .map_err(|error| error.to_string())?)
}

fn pack_v2(manifest: &Manifest, atoms: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, atom) in atoms {
        files.insert(
            PathSegment::parse(name)?,
            v2::write::FileEntry::Borrowed(atom),
        );
    }
    let writer = v2::write::Writer::default()
        .write_manifest(manifest)?
        .write_atoms(files)?;
    Ok(writer.finish(v2::SignatureAlgorithm::None)?.to_vec())
}

fn pack_v3(manifest: &Manifest, atoms: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, atom) in atoms {
        files.insert(
            PathSegment::parse(name)?,
            v3::write::FileEntry::borrowed(atom, v3::Timestamps::default()),
        );
    }
    let writer = v3::write::Writer::default()
        .write_manifest(manifest)?
        .write_atoms(files)?;
    Ok(writer.finish(v3::SignatureAlgorithm::None)?.to_vec())
}
