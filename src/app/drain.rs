//! The end of the program: each part gets a bounded time.
//!
//! Kubernetes kills the process 30 s after SIGTERM.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use artifacts::Stores;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::pipeline::Executor;

/// Longest wait for the last replies.
const REPLIES: Duration = Duration::from_secs(5);
/// Longest wait for executions to end, and for their unfinished uploads to be aborted.
const EXECUTIONS: Duration = Duration::from_secs(3);
/// Longest wait for the directories of steps to be removed.
const CLEAN_UP: Duration = Duration::from_secs(3);

/// Waits until the ports have sent their last responses.
pub(super) async fn replies(server: &mut JoinHandle<io::Result<()>>) {
    if timeout(REPLIES, server).await.is_err() {
        tracing::warn!("some callers did not read their replies in time");
    }
}

/// Waits until all executions have ended, which is when `finish` ends, and all unfinished uploads
/// are aborted.
pub(super) async fn executions(finish: impl Future<Output = ()>, stores: &Stores) {
    let ended = async {
        finish.await;
        stores.close().await;
    };
    if timeout(EXECUTIONS, ended).await.is_err() {
        tracing::warn!(
            "some executions did not end in time: unfinished uploads may stay in their buckets"
        );
    }
}

/// Waits until the directories of steps are removed.
pub(super) async fn directories(executor: Arc<Executor>) {
    let cleaning = tokio::task::spawn_blocking(move || executor.clean_up());
    if timeout(CLEAN_UP, cleaning).await.is_err() {
        tracing::warn!(
            "some directories of steps are left: the next process with this scratch directory removes them"
        );
    }
}
