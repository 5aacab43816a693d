//! Compiled code on disk.
//!
//! ```text
//! <code-dir>/<engine fingerprint>/<module digest>.cwasm   machine code, as wasmtime serialises it
//! <code-dir>/<engine fingerprint>/<module digest>.sum     its length and XXH3-128, written last
//! ```
//!
//! The fingerprint covers the version of wasmtime, the processor's features and every setting that changes code, so that an
//! upgrade is a miss. This is the only place that turns bytes into machine code, and the only one with unsafe code. What makes
//! it sound: the bytes were written by this program, into a directory that only this user can enter, and their length and
//! checksum still hold. Nothing from a source ever gets here. The checksum finds disks that err, not people who attack: whoever
//! can write into the directory is this user, who can do as much without it.
#![allow(
    unsafe_code,
    reason = "maps compiled code; see above for what makes it sound"
)]
#![allow(clippy::disallowed_methods, reason = "this is the module that may")]

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

/// Core module or component, in machine code.
pub(super) enum Code {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

/// Machine code that [`Engine::precompile_module`] or [`Engine::precompile_component`] has just returned.
pub(super) struct Fresh(Vec<u8>);

impl Fresh {
    /// Compiles. Blocks for as long as that takes: seconds for a large module.
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

    /// Loads the code into an engine with the same settings.
    pub(super) fn load(&self, engine: &Engine, component: bool) -> wasmtime::Result<Code> {
        // SAFETY: the bytes are the compiler's own, never out of this process's hands.
        unsafe {
            if component {
                Component::deserialize(engine, &self.0).map(Code::Component)
            } else {
                Module::deserialize(engine, &self.0).map(Code::Module)
            }
        }
    }
}

/// The directory of compiled code for one kind of engine.
#[derive(Debug)]
pub(super) struct CodeDirectory {
    path: PathBuf,
}

impl CodeDirectory {
    /// Opens, and makes, `<directory>/<fingerprint>`. An error when it is not private to this user.
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

    /// Keeps code for later starts.
    pub(super) fn write(&self, module_digest: &str, code: &Fresh) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.path)?;
        file.write_all(&code.0)?;
        file.persist(self.file(module_digest, "cwasm"))?;
        let mut sum = NamedTempFile::new_in(&self.path)?;
        write!(
            sum,
            "{}",
            summary(code.0.len() as u64, xxhash3_128::Hasher::oneshot(&code.0))
        )?;
        sum.persist(self.file(module_digest, "sum"))?;
        Ok(())
    }

    /// Opens kept code, if it is there and unchanged. Anything else is a miss.
    pub(super) fn open_kept(&self, module_digest: &str) -> Option<Kept> {
        let file = File::open(self.file(module_digest, "cwasm")).ok()?;
        let expected = fs::read_to_string(self.file(module_digest, "sum")).ok()?;
        if checksum(&file).ok()? != expected {
            tracing::warn!(
                module = module_digest,
                "kept code is damaged; compiling again"
            );
            return None;
        }
        Some(Kept { file })
    }

    fn file(&self, module_digest: &str, extension: &str) -> PathBuf {
        self.path
            .join(format!("{}.{extension}", module_digest.replace(':', "-")))
    }
}

/// Kept code whose length and checksum hold.
pub(super) struct Kept {
    file: File,
}

impl Kept {
    /// Maps the code into an engine with the same settings.
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Code> {
        // By descriptor: what is mapped is the file that was checked, whatever its name points to now.
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match Engine::detect_precompiled_file(&path)? {
            // SAFETY: this program wrote the file into a private directory, and its checksum holds; see the module's header.
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

fn checksum(file: &File) -> io::Result<String> {
    let mut reader = BufReader::with_capacity(0, file);
    let (mut hasher, mut length, mut buffer) = (xxhash3_128::Hasher::new(), 0, vec![0; 1 << 20]);
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok(summary(length, hasher.finish_128()));
        }
        length += count as u64;
        hasher.write(&buffer[..count]);
    }
}

fn summary(length: u64, hash: u128) -> String {
    format!("{length} {hash:032x}\n")
}

fn require_private(directory: &Path) -> io::Result<()> {
    let metadata = fs::metadata(directory)?;
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user || metadata.mode() & 0o077 != 0 {
        let message = format!(
            "`{}` must belong to this user and be closed to others (mode 0700)",
            directory.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

/// Collects what `Hash` feeds it into a hash that is the same in every process.
struct Fingerprint(xxhash3_128::Hasher);

impl Hasher for Fingerprint {
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
    fn keeps_code_and_misses_what_changed() {
        let (directory, engine) = (private(), Engine::default());
        let code = CodeDirectory::open(directory.path(), &engine).unwrap();
        assert!(code.open_kept("sha256:aa").is_none());
        code.write(
            "sha256:aa",
            &Fresh::compile(&engine, MODULE, false).unwrap(),
        )
        .unwrap();
        assert!(matches!(
            code.open_kept("sha256:aa").unwrap().load(&engine),
            Ok(Code::Module(_))
        ));
        let file = code.file("sha256:aa", "cwasm");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(code.open_kept("sha256:aa").is_none(), "one bit");
        fs::write(&file, &bytes[..100]).unwrap();
        assert!(code.open_kept("sha256:aa").is_none(), "cut short");
    }

    #[test]
    fn refuses_a_directory_that_others_can_enter() {
        let directory = private();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(CodeDirectory::open(directory.path(), &Engine::default()).is_err());
    }

    #[test]
    fn engines_of_different_settings_do_not_meet() {
        let directory = private();
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let plain = CodeDirectory::open(directory.path(), &Engine::default()).unwrap();
        let other = CodeDirectory::open(directory.path(), &Engine::new(&config).unwrap()).unwrap();
        assert_ne!(plain.path, other.path);
    }
}
