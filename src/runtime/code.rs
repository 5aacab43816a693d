//! The code directory: machine code of compiled modules on disk.
//!
//! ```text
//! <code-dir>/<engine fingerprint>/<module digest>.cwasm   machine code, as wasmtime serialises it
//! <code-dir>/<engine fingerprint>/<module digest>.sum     its length and XXH3-128 checksum
//! ```
//!
//! The fingerprint is a hash of wasmtime's version, the processor's features, every setting that
//! changes the code, and the version of this program. So after an upgrade, modules are compiled
//! again. The `.sum` file is written last. A `.cwasm` file without a `.sum` file is ignored.
//!
//! # Why the unsafe code is sound
//!
//! This is the only file that turns bytes into machine code, and the only file with unsafe code.
//! `deserialize` and `deserialize_file` of wasmtime are unsafe for two reasons. The bytes are
//! executed, so they must be the unchanged output of wasmtime's compiler. And a mapped file must
//! not change while it is mapped. Both conditions hold:
//!
//! - Code in memory is a [`NewCode`]. Only [`NewCode::compile`] makes one.
//! - Code on disk is in a directory that belongs to this user and has mode 0700. The code directory
//!   and its subdirectory are checked when they are opened. No other user may be able to rename
//!   them: the directories above must not be writable by others.
//! - This program never changes a file in place. It writes a temporary file and renames it.
//! - Before a file is mapped, its length and checksum are compared with its `.sum` file. The file
//!   stays open, and is mapped through its descriptor. So the mapped file is the file that was
//!   checked.
//! - wasmtime checks that the code was compiled by the same version with the same settings.
//!
//! The checksum detects damage, such as a disk error. It does not detect an attack, and does not
//! need to: only this user can write to the directory, and this user can execute any code anyway.
//! Bytes from a registry or server are never given to `deserialize`. They are compiled.
#![allow(
    unsafe_code,
    reason = "maps compiled code; the header explains why this is sound"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "this is the only file that may deserialise compiled code"
)]

use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use twox_hash::xxhash3_128;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Compiled code that is loaded into an engine.
pub(super) enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

impl Code {
    /// The size of the machine code, in bytes.
    pub(super) fn machine_code_bytes(&self) -> usize {
        let range = match self {
            Self::Module(module) => module.image_range(),
            Self::Component(component) => component.image_range(),
        };
        (range.end as usize).saturating_sub(range.start as usize)
    }
}

/// Machine code that [`Engine::precompile_module`] or [`Engine::precompile_component`] returned to
/// this process.
pub(super) struct NewCode(Vec<u8>);

impl NewCode {
    /// Compiles a core module, or a component if `component` is true. Blocks for seconds if the
    /// module is large.
    pub(super) fn compile(
        engine: &Engine,
        bytes: &[u8],
        component: bool,
    ) -> wasmtime::Result<Self> {
        let code = if component {
            engine.precompile_component(bytes)?
        } else {
            engine.precompile_module(bytes)?
        };
        Ok(Self(code))
    }

    /// Loads the code into an engine with the same settings. `component` is as for
    /// [`NewCode::compile`].
    pub(super) fn load(&self, engine: &Engine, component: bool) -> wasmtime::Result<Code> {
        // SAFETY: the bytes are the output of the compiler, and have not left this process.
        unsafe {
            if component {
                Component::deserialize(engine, &self.0).map(Code::Component)
            } else {
                Module::deserialize(engine, &self.0).map(Code::Module)
            }
        }
    }
}

/// The code directory of engines with the same fingerprint.
#[derive(Debug)]
pub(super) struct CodeDirectory {
    /// `<code-dir>/<engine fingerprint>`
    path: PathBuf,
}

impl CodeDirectory {
    /// Opens `<directory>/<fingerprint>`, and creates it if it does not exist. Fails if one of the
    /// two directories is not private to this user.
    pub(super) fn open(directory: &Path, engine: &Engine) -> io::Result<Self> {
        let mut hasher = Fingerprint(xxhash3_128::Hasher::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        let path = directory.join(format!("{:032x}", hasher.0.finish_128()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)?;
        require_private(directory)?;
        require_private(&path)?;
        Ok(Self { path })
    }

    /// Stores the code of a module. Replaces stored code of the same module.
    pub(super) fn write(&self, module_digest: &str, code: &NewCode) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.path)?;
        file.write_all(&code.0)?;
        file.persist(self.file(module_digest, "cwasm"))?;
        let mut sum = NamedTempFile::new_in(&self.path)?;
        let hash = xxhash3_128::Hasher::oneshot(&code.0);
        sum.write_all(checksum_line(code.0.len() as u64, hash).as_bytes())?;
        sum.persist(self.file(module_digest, "sum"))?;
        Ok(())
    }

    /// Opens the stored code of a module. `None` if no code is stored or if its checksum is wrong.
    pub(super) fn open_stored(&self, module_digest: &str) -> Option<StoredCode> {
        let file = File::open(self.file(module_digest, "cwasm")).ok()?;
        let expected = fs::read_to_string(self.file(module_digest, "sum")).ok()?;
        if checksum(&file).ok()? != expected {
            tracing::warn!(
                module = module_digest,
                "the compiled code on disk is damaged; the module is compiled again"
            );
            return None;
        }
        Some(StoredCode { file })
    }

    fn file(&self, module_digest: &str, extension: &str) -> PathBuf {
        self.path
            .join(format!("{}.{extension}", module_digest.replace(':', "-")))
    }
}

/// An open file of stored code whose length and checksum are right.
pub(super) struct StoredCode {
    file: File,
}

impl StoredCode {
    /// Maps the code into an engine with the same settings.
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Code> {
        // The path of the descriptor: the file may have been replaced since its checksum was
        // computed.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match Engine::detect_precompiled_file(&path)? {
            // SAFETY: this program wrote the file into a private directory, and the checksum is
            // right. The header has the whole argument.
            Some(wasmtime::Precompiled::Module) => unsafe {
                Module::deserialize_file(engine, &path).map(Code::Module)
            },
            // SAFETY: as above.
            Some(wasmtime::Precompiled::Component) => unsafe {
                Component::deserialize_file(engine, &path).map(Code::Component)
            },
            None => Err(wasmtime::Error::msg("the file is not compiled code")),
        }
    }
}

/// The expected content of the `.sum` file for a file of code.
fn checksum(file: &File) -> io::Result<String> {
    let mut reader = BufReader::with_capacity(0, file);
    let mut hasher = xxhash3_128::Hasher::new();
    let mut length = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(checksum_line(length, hasher.finish_128()));
        }
        length += count as u64;
        hasher.write(&buffer[..count]);
    }
}

fn checksum_line(length: u64, hash: u128) -> String {
    format!("{length} {hash:032x}\n")
}

fn require_private(directory: &Path) -> io::Result<()> {
    let metadata = fs::metadata(directory)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user || metadata.mode() & 0o077 != 0 {
        let message = format!(
            "`{}` must belong to this user and have mode 0700",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// Hashes a value of type `Hash` to 128 bits. Unlike std's hasher, it has the same result in every
/// process.
struct Fingerprint(xxhash3_128::Hasher);

impl Hasher for Fingerprint {
    /// Not used: the result has 128 bits.
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    fn private() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    #[test]
    fn stored_code_is_loaded_unless_it_was_changed() {
        let directory = private();
        let engine = Engine::default();
        let code = CodeDirectory::open(directory.path(), &engine).unwrap();
        assert!(code.open_stored("sha256:aa").is_none());
        code.write(
            "sha256:aa",
            &NewCode::compile(&engine, MODULE, false).unwrap(),
        )
        .unwrap();
        assert!(matches!(
            code.open_stored("sha256:aa").unwrap().load(&engine),
            Ok(Code::Module(_))
        ));
        let file = code.file("sha256:aa", "cwasm");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(
            code.open_stored("sha256:aa").is_none(),
            "one bit was changed"
        );
        fs::write(&file, &bytes[..100]).unwrap();
        assert!(
            code.open_stored("sha256:aa").is_none(),
            "the file was cut short"
        );
    }

    #[test]
    fn a_directory_that_other_users_can_enter_is_refused() {
        let directory = private();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(CodeDirectory::open(directory.path(), &Engine::default()).is_err());
    }

    #[test]
    fn engines_with_different_settings_have_different_directories() {
        let directory = private();
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let plain = CodeDirectory::open(directory.path(), &Engine::default()).unwrap();
        let other = CodeDirectory::open(directory.path(), &Engine::new(&config).unwrap()).unwrap();
        assert_ne!(plain.path, other.path);
    }
}
