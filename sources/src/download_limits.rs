//! The limits on parallel downloads: one for all servers, and a lower one for each server.
//!
//! The limit per server keeps a slow server from delaying downloads from other servers. The server is
//! identified by its name in the reference. A server with several names has a limit for each of them;
//! the limit for all servers still holds.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

const MAX_DOWNLOADS: usize = 16;
const MAX_DOWNLOADS_PER_SERVER: usize = 4;

/// Limits the number of downloads that run at once.
#[derive(Debug)]
pub(crate) struct DownloadLimiter {
    total: Arc<Semaphore>,
    servers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The permit to download. Dropping the permit lets another download start.
#[derive(Debug)]
pub(crate) struct DownloadPermit {
    _server: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

impl DownloadLimiter {
    pub(crate) fn new() -> Self {
        Self {
            total: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            servers: Mutex::default(),
        }
    }

    /// Waits for a permit to download from `server`.
    ///
    /// The permit of the server is acquired first: a download that waits for its server does not take
    /// a permit of the total from downloads of other servers.
    pub(crate) async fn acquire(&self, server: &str) -> Result<DownloadPermit, Error> {
        let closed = |_| Error::broke_off("waiting for the download of");
        let server = self.semaphore(server);
        let server = server.acquire_owned().await.map_err(closed)?;
        let total = Arc::clone(&self.total);
        let total = total.acquire_owned().await.map_err(closed)?;
        Ok(DownloadPermit {
            _server: server,
            _total: total,
        })
    }

    fn semaphore(&self, server: &str) -> Arc<Semaphore> {
        let mut servers = self.servers.lock();
        // A permit holds its semaphore. A semaphore that only the map holds is not in use.
        servers.retain(|name, semaphore| name == server || Arc::strong_count(semaphore) > 1);
        let semaphore = servers
            .entry(server.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(MAX_DOWNLOADS_PER_SERVER)));
        Arc::clone(semaphore)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_server_does_not_delay_others() {
        let limiter = DownloadLimiter::new();
        let mut held = Vec::new();
        for _ in 0..MAX_DOWNLOADS_PER_SERVER {
            held.push(limiter.acquire("slow").now_or_never().unwrap().unwrap());
        }
        let mut waiting: Vec<_> = (0..MAX_DOWNLOADS)
            .map(|_| limiter.acquire("slow").boxed())
            .collect();
        assert!(
            waiting
                .iter_mut()
                .all(|permit| permit.now_or_never().is_none()),
            "four downloads from the server are running"
        );
        for server in ["a", "b", "c"] {
            for _ in 0..MAX_DOWNLOADS_PER_SERVER {
                held.push(limiter.acquire(server).now_or_never().unwrap().unwrap());
            }
        }
        assert!(
            limiter.acquire("d").now_or_never().is_none(),
            "sixteen downloads are running"
        );
        drop(waiting);
        drop(held);
        assert!(limiter.acquire("slow").now_or_never().is_some());
        assert_eq!(
            limiter.servers.lock().len(),
            1,
            "servers without a download are removed"
        );
    }
}
