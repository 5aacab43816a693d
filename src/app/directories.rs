//! The directories of the program.

use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sources::store::Store;

use super::error::AppError;
use crate::config::Config;

const NAME: &str = "wasm-workflow-executor";

/// Directories that the program writes to.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Fetched modules.
    pub cache: PathBuf,
    /// Compiled code.
    pub code: PathBuf,
    /// Directories of running steps.
    pub scratch: PathBuf,
}

/// Directories that the user chose.
#[derive(Clone, Debug, Default)]
pub struct ChosenDirectories {
    /// Directory for fetched modules.
    pub cache: Option<PathBuf>,
    /// Directory for compiled code.
    pub code: Option<PathBuf>,
    /// Directory for the directories of steps.
    pub scratch: Option<PathBuf>,
}

impl Directories {
    /// The directories for `serve`: by default below the system's temporary directory.
    pub fn for_server(chosen: ChosenDirectories) -> Result<Self, AppError> {
        Self::below(&env::temp_dir().join(NAME), chosen)
    }

    /// The directories for commands in local mode: by default in the user's cache directory.
    pub fn for_user(chosen: ChosenDirectories) -> Result<Self, AppError> {
        let parent = user_cache().unwrap_or_else(env::temp_dir);
        Self::below(&parent.join(NAME), chosen)
    }

    fn below(default: &Path, chosen: ChosenDirectories) -> Result<Self, AppError> {
        if chosen.cache.is_none() || chosen.scratch.is_none() {
            create_private(default)?;
        }
        let cache = chosen.cache.unwrap_or_else(|| default.join("cache"));
        let code = chosen.code.unwrap_or_else(|| cache.join("code"));
        let scratch = chosen.scratch.unwrap_or_else(|| default.join("scratch"));
        Ok(Self {
            cache,
            code,
            scratch,
        })
    }

    /// The store of fetched modules, with the configured size.
    pub fn store(&self, config: &Config) -> Store {
        Store::new(&self.cache).bounded(config.sources.max_store_size.0)
    }
}

/// Creates a directory that is closed to other users. An existing directory must belong to this
/// user and be closed: machine code and the files of steps are stored in it.
fn create_private(path: &Path) -> Result<(), AppError> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| path.symlink_metadata());
    let metadata = created.map_err(|source| AppError::CreateDirectory {
        path: path.to_owned(),
        source,
    })?;
    let user = rustix::process::geteuid().as_raw();
    match metadata.is_dir() && metadata.uid() == user && metadata.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(AppError::NotPrivate(path.to_owned())),
    }
}

/// `$XDG_CACHE_HOME`, or `~/.cache`.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME").or_else(|| {
        absolute("HOME")
            .filter(|home| home != Path::new("/"))
            .map(|home| home.join(".cache"))
    })
}
