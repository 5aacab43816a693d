//! The output of a module, stored as the artifact `main-logs`, which Argo's UI shows.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use artifacts::{Body, Content, Location, Stores};
use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::io::AsyncSeekExt;
use tokio_util::io::ReaderStream;

use crate::runtime::Tee;
use crate::step::{LOG_ARTIFACT, StoredOutput};

/// A log that is being written: standard output and standard error in one file, in the order of the
/// writes. The file has no name, so nothing is left when the process is killed.
///
/// All functions block on the disk.
#[derive(Debug)]
pub(super) struct LogWriter {
    file: Arc<Mutex<File>>,
    location: Location,
}

impl LogWriter {
    /// Makes the file in `directory`. The log will be stored at `location`.
    pub(super) fn start(location: &Location, directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            location: location.clone(),
        })
    }

    /// A tee that writes to the log and to `tee`. When the disk is full, the log ends and the
    /// module continues.
    pub(super) fn tee(&self, mut tee: Option<Tee>) -> Tee {
        let file = Arc::clone(&self.file);
        Box::new(move |bytes| {
            let _ = file.lock().write_all(bytes);
            if let Some(tee) = &mut tee {
                tee(bytes);
            }
        })
    }

    /// Ends the log. Call this when the module has ended.
    pub(super) fn finish(self) -> io::Result<FinishedLog> {
        let mut file = self.file.lock().try_clone()?;
        file.rewind()?;
        let length = file.metadata()?.len();
        Ok(FinishedLog {
            file,
            length,
            location: self.location,
        })
    }
}

/// A complete log that is not stored yet.
#[derive(Debug)]
pub(super) struct FinishedLog {
    file: File,
    /// Length of the file in bytes.
    length: u64,
    location: Location,
}

impl FinishedLog {
    /// Stores the log, with the Secrets of a namespace. Does not block.
    pub(super) async fn store(
        self,
        stores: &Stores,
        namespace: &str,
    ) -> Result<StoredOutput, artifacts::Error> {
        let store = stores.open(&self.location, namespace).await?;
        store.put(&self.location.key, &self).await?;
        Ok(StoredOutput {
            name: LOG_ARTIFACT.to_owned(),
            path: String::new(),
            location: self.location,
            links_left_out: 0,
        })
    }
}

#[async_trait]
impl Content for FinishedLog {
    async fn open(&self) -> Result<Body, artifacts::Error> {
        let failed = |error| artifacts::Error::local("the log", error);
        let mut file = tokio::fs::File::from_std(self.file.try_clone().map_err(failed)?);
        file.rewind().await.map_err(failed)?;
        let stream = ReaderStream::new(file).map(move |chunk| chunk.map_err(failed));
        Ok(Body::new(stream.boxed(), Some(self.length)))
    }
}
