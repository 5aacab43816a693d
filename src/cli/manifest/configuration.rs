//! The configuration of an installation.

use std::path::Path;

use crate::cli::Failure;
use crate::config::Config;

/// A configuration, and its text for the manifest.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) text: String,
    pub(super) config: Config,
}

impl Configuration {
    /// Reads the file. Without a file, `default` is the text.
    pub(super) fn read(
        file: Option<&Path>,
        default: impl FnOnce() -> String,
    ) -> Result<Self, Failure> {
        let (text, origin) = match file {
            Some(file) => (
                Config::text_of(file).map_err(Failure::usage)?,
                format!("`{}`", file.display()),
            ),
            None => (default(), "the manifest".to_owned()),
        };
        let config = Config::from_text(&text, &origin).map_err(Failure::usage)?;
        Ok(Self { text, config })
    }
}
