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
//! This is the only file that turns bytes into machine code.
//! `deserialize` and `deserialize_file` of wasmtime are unsafe for two reasons. The bytes are
//! executed, so they must be the unchanged output of wasmtime's compiler. And a mapped file must
//! not change while it is mapped. Both conditions hold:
//!
//! - New code is a [`NewCode`]. Only a compile worker makes this code. The worker is a process of
//!   this program, and writes to a pipe of this process.
//! - Code on disk is in a directory that belongs to this user and has mode 0700. When the directory
//!   is opened, no other user can rename or replace it, or a directory above it. The directory is
//!   then used through its descriptor (`private_directory/`).
//! - A file is used only if its owner, mode, type and number of names show that this user wrote it.
//! - This program never changes a file in place. It writes a temporary file and renames it. Code
//!   that must not be stored is in a file without a name, in memory.
//! - Before a file is mapped, its length and checksum are compared with its `.sum` file. The file
//!   stays open, and is mapped through its descriptor. So the mapped file is the file that was
//!   checked.
//! - wasmtime checks that the code was compiled by the same version with the same settings.
//!
//! The checksum detects damage, such as a disk error. It does not detect an attack, and does not
//! need to: only this user can write to the directory, and this user can execute any code anyway.
//! Bytes from a registry or server are never given to `deserialize`. A worker compiles them.
#![allow(
    unsafe_code,
    reason = "maps compiled code; the header explains why this is sound"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "this is the only file that may deserialise compiled code"
)]

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};
use twox_hash::xxhash3_128;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, Precompiled};

use super::private_directory::{PrivateDirectory, TemporaryFile};

/// A `.sum` file is shorter than this, in bytes.
const MAX_SUM_BYTES: u64 = 128;

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
        let range = self.image_range();
        (range.end as usize).saturating_sub(range.start as usize)
    }

    /// The compiled code with its metadata, as wasmtime serialises it: an ELF file.
    pub(super) fn image(&self) -> &[u8] {
        // SAFETY: wasmtime maps the whole file for reading, and keeps the mapping as long as the
        // module or component exists. The file does not change: see the header.
        unsafe { std::slice::from_raw_parts(self.image_range().start, self.machine_code_bytes()) }
    }

    fn image_range(&self) -> std::ops::Range<*const u8> {
        match self {
            Self::Module(module) => module.image_range(),
            Self::Component(component) => component.image_range(),
        }
    }
}

/// A file for the machine code of one module. A compile worker makes the code.
#[derive(Debug)]
pub(super) enum NewCode {
    /// A temporary file in the code directory.
    OnDisk(TemporaryFile),
    /// A file in memory (`memfd_create(2)`).
    InMemory(File),
}

impl NewCode {
    /// An empty file in memory.
    pub(super) fn in_memory() -> io::Result<Self> {
        let file = memfd_create("compiled code", MemfdFlags::CLOEXEC)?;
        Ok(Self::InMemory(file.into()))
    }

    /// Another handle to the file.
    pub(super) fn file(&self) -> io::Result<File> {
        match self {
            Self::OnDisk(file) => file.file().try_clone(),
            Self::InMemory(file) => file.try_clone(),
        }
    }
}

/// The code directory of engines with the same fingerprint.
#[derive(Debug)]
pub(super) struct CodeDirectory {
    /// `<code-dir>/<engine fingerprint>`
    directory: PrivateDirectory,
}

impl CodeDirectory {
    /// Opens `<directory>/<fingerprint>`, and creates it if it does not exist. Fails if another
    /// user can change or replace one of the two directories.
    pub(super) fn open(directory: &Path, engine: &Engine) -> io::Result<Self> {
        let directory = PrivateDirectory::open(directory)?.subdirectory(&fingerprint(engine))?;
        directory.remove_stale_files()?;
        Ok(Self { directory })
    }

    /// Creates an empty file for the code of a module.
    pub(super) fn create(&self) -> io::Result<NewCode> {
        self.directory.temporary_file().map(NewCode::OnDisk)
    }

    /// Stores a temporary file under the module's digest, with its checksum. Replaces stored code
    /// of the same module. A worker has written the file, and no other process has it open.
    pub(super) fn publish(&self, module_digest: &str, code: TemporaryFile) -> io::Result<()> {
        let checksum = checksum(code.file())?;
        code.rename(&file_name(module_digest, "cwasm"))?;
        let sum = self.directory.temporary_file()?;
        sum.file().write_all(checksum.as_bytes())?;
        sum.rename(&file_name(module_digest, "sum"))
    }

    /// Whether code of a module is stored. It may be damaged.
    pub(super) fn has(&self, module_digest: &str) -> bool {
        let opened = self.directory.open_file(&file_name(module_digest, "sum"));
        opened.is_ok_and(|file| file.is_some())
    }

    /// Opens the stored code of a module. `None` if no code is stored, if its checksum is wrong, or
    /// if another user may have written a file.
    pub(super) fn open_stored(&self, module_digest: &str) -> Option<CodeFile> {
        let opened = self.read(module_digest).unwrap_or_else(|error| {
            tracing::warn!(
                module = module_digest,
                %error,
                "the compiled code on disk cannot be read; the module is compiled again"
            );
            None
        })?;
        if opened.checksum != opened.expected {
            tracing::warn!(
                module = module_digest,
                "the compiled code on disk is damaged; the module is compiled again"
            );
            return None;
        }
        Some(CodeFile(opened.file))
    }

    /// `None` if one of the two files does not exist.
    fn read(&self, module_digest: &str) -> io::Result<Option<OpenedCode>> {
        let code = self
            .directory
            .open_file(&file_name(module_digest, "cwasm"))?;
        let sum = self.directory.open_file(&file_name(module_digest, "sum"))?;
        let (Some(file), Some(sum)) = (code, sum) else {
            return Ok(None);
        };
        Ok(Some(OpenedCode {
            checksum: checksum(&file)?,
            expected: io::read_to_string(sum.take(MAX_SUM_BYTES))?,
            file,
        }))
    }
}

/// The name of a module's file in the code directory.
fn file_name(module_digest: &str, extension: &str) -> String {
    format!("{}.{extension}", module_digest.replace(':', "-"))
}

/// The name of the directory for engines whose settings have the same effect on the code.
fn fingerprint(engine: &Engine) -> String {
    let mut hasher = Fingerprint(xxhash3_128::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    format!("{:032x}", hasher.0.finish_128())
}

/// The two files of a module before their checksums are compared.
struct OpenedCode {
    file: File,
    /// The checksum of the content.
    checksum: String,
    /// The content of the `.sum` file.
    expected: String,
}

/// An open file of machine code: new code, or stored code whose length and checksum are right.
#[derive(Debug)]
pub(super) struct CodeFile(File);

impl CodeFile {
    /// The code that a worker has written.
    pub(super) fn new(code: &NewCode) -> io::Result<Self> {
        code.file().map(Self)
    }

    /// The file.
    pub(super) fn file(&self) -> &File {
        &self.0
    }

    /// Maps the code into an engine with the same settings. When memory is short, the kernel can
    /// drop mapped pages of a file.
    pub(super) fn map(&self, engine: &Engine) -> wasmtime::Result<Code> {
        // The path of the descriptor: the file may have been replaced since its checksum was
        // computed.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        match Engine::detect_precompiled_file(&path)? {
            // SAFETY: a worker of this program wrote the code. No other user can change the file.
            // The header has the whole argument.
            Some(Precompiled::Module) => unsafe {
                Module::deserialize_file(engine, &path).map(Code::Module)
            },
            // SAFETY: as above.
            Some(Precompiled::Component) => unsafe {
                Component::deserialize_file(engine, &path).map(Code::Component)
            },
            None => Err(not_compiled_code()),
        }
    }

    /// Reads the code into memory, for a file that cannot be mapped. For example, its file system
    /// is mounted with `noexec`.
    pub(super) fn read(&self, engine: &Engine) -> wasmtime::Result<Code> {
        let mut bytes = Vec::new();
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        match Engine::detect_precompiled(&bytes) {
            // SAFETY: as in `map`.
            Some(Precompiled::Module) => unsafe {
                Module::deserialize(engine, &bytes).map(Code::Module)
            },
            // SAFETY: as in `map`.
            Some(Precompiled::Component) => unsafe {
                Component::deserialize(engine, &bytes).map(Code::Component)
            },
            None => Err(not_compiled_code()),
        }
    }
}

fn not_compiled_code() -> wasmtime::Error {
    wasmtime::Error::msg("the file is not compiled code")
}

/// The content of the `.sum` file for a file of code.
fn checksum(file: &File) -> io::Result<String> {
    let mut hasher = xxhash3_128::Hasher::new();
    let mut length = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read_at(&mut buffer, length)?;
        if count == 0 {
            return Ok(format!("{length} {:032x}\n", hasher.finish_128()));
        }
        length += count as u64;
        hasher.write(&buffer[..count]);
    }
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
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const DIGEST: &str = "sha256:aa";

    fn private() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        directory
    }

    /// The `.cwasm` file of the module [`DIGEST`].
    fn stored_file(directory: &Path, engine: &Engine) -> PathBuf {
        let name = file_name(DIGEST, "cwasm");
        directory.join(fingerprint(engine)).join(name)
    }

    fn store(code: &CodeDirectory, engine: &Engine) {
        let compiled = engine.precompile_module(MODULE).unwrap();
        let new = code.create().unwrap();
        new.file().unwrap().write_all(&compiled).unwrap();
        let NewCode::OnDisk(new) = new else {
            panic!("the file is in the directory");
        };
        code.publish(DIGEST, new).unwrap();
    }

    #[test]
    fn stored_code_is_loaded_unless_it_was_changed() {
        let directory = private();
        let engine = Engine::default();
        let code = CodeDirectory::open(directory.path(), &engine).unwrap();
        assert!(code.open_stored(DIGEST).is_none());
        store(&code, &engine);
        assert!(matches!(
            code.open_stored(DIGEST).unwrap().map(&engine),
            Ok(Code::Module(_))
        ));
        assert!(matches!(
            code.open_stored(DIGEST).unwrap().read(&engine),
            Ok(Code::Module(_))
        ));
        let file = stored_file(directory.path(), &engine);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(code.open_stored(DIGEST).is_none(), "one bit was changed");
        fs::write(&file, &bytes[..100]).unwrap();
        assert!(code.open_stored(DIGEST).is_none(), "the file was cut short");
    }

    #[test]
    fn stored_code_that_another_user_could_have_written_is_not_loaded() {
        let directory = private();
        let engine = Engine::default();
        let code = CodeDirectory::open(directory.path(), &engine).unwrap();
        store(&code, &engine);
        let file = stored_file(directory.path(), &engine);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(code.open_stored(DIGEST).is_none());
        store(&code, &engine);
        assert!(code.open_stored(DIGEST).is_some(), "the file is replaced");
    }

    #[test]
    fn a_directory_that_replaces_the_code_directory_has_no_effect() {
        let parent = private();
        let engine = Engine::default();
        let path = parent.path().join("code");
        let code = CodeDirectory::open(&path, &engine).unwrap();
        fs::rename(&path, parent.path().join("old")).unwrap();
        let planted = CodeDirectory::open(&path, &engine).unwrap();
        store(&planted, &engine);
        assert!(code.open_stored(DIGEST).is_none());
    }

    #[test]
    fn engines_with_different_settings_have_different_directories() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let other = Engine::new(&config).unwrap();
        assert_ne!(fingerprint(&Engine::default()), fingerprint(&other));
    }
}
