//! What a module prints, kept as the artifact `main-logs`, which Argo's UI shows.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use artifacts::{Body, Location, Stores};
use futures::StreamExt;
use tokio_util::io::ReaderStream;

use crate::runtime::Tee;
use crate::step::Produced;

/// What Argo calls the logs of a container step.
const NAME: &str = "main-logs";

/// Both streams in one file, as they came. The file has no name, so that nothing of it stays.
#[derive(Debug)]
pub(super) struct Logs {
    file: Arc<Mutex<File>>,
    location: Location,
}

impl Logs {
    /// A file in the directory.
    pub(super) fn start(location: &Location, directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            location: location.clone(),
        })
    }

    /// Writes to the file what is written to `tee` too. A full disk ends the log and not the module.
    pub(super) fn tee(&self, mut tee: Option<Tee>) -> Tee {
        let file = Arc::clone(&self.file);
        Box::new(move |bytes| {
            let _ = file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write_all(bytes);
            if let Some(tee) = &mut tee {
                tee(bytes);
            }
        })
    }

    /// Puts it where it is kept.
    pub(super) async fn store(
        self,
        stores: Stores,
        namespace: String,
    ) -> Result<Produced, artifacts::Error> {
        let file = || -> io::Result<(File, u64)> {
            let mut file = self
                .file
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .try_clone()?;
            file.rewind()?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = file().map_err(|error| artifacts::Error::local("the log", error))?;
        let stream = ReaderStream::new(tokio::fs::File::from_std(file))
            .map(|chunk| chunk.map_err(|error| artifacts::Error::local("the log", error)));
        let store = stores.open(&self.location, &namespace).await?;
        store
            .put(&self.location.key, Body::new(stream.boxed(), Some(length)))
            .await?;
        let location = self.location;
        Ok(Produced {
            name: NAME.to_owned(),
            path: String::new(),
            location,
            links_left_out: 0,
        })
    }
}
