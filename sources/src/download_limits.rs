//! The limits on parallel downloads: two levels of semaphores.
//!
//! One semaphore limits the downloads from all servers, and one semaphore for each server limits
//! the downloads from that server. The lower limit per server is a bulkhead: a slow server cannot
//! use all permits and delay the downloads from other servers.
//!
//! A server is identified by its name in the reference. A server with several names has a semaphore
//! for each name. The limit for all servers still applies.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

/// The most downloads at once, from all servers.
const MAX_DOWNLOADS: usize = 16;
/// The most downloads at once from one server.
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
    /// The permit of the server is acquired first. A download that waits for its server therefore
    /// holds no permit of the total.
    pub(crate) async fn acquire(&self, server: &str) -> Result<DownloadPermit, Error> {
        let closed = |_| Error::task_ended("downloading");
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
        // A permit holds a reference to its semaphore. A semaphore without permits is removed.
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
