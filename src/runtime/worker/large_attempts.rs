//! Large attempts to compile: one at a time, in turns.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::runtime::admission::{Class, Share};

/// Admits one large attempt at a time, in turns between tenants, or else between templates: each
/// has at most one attempt in the queue of all.
#[derive(Debug, Default)]
pub(super) struct LargeAttempts {
    all: Arc<AsyncMutex<()>>,
    shares: Mutex<HashMap<Share, Arc<AsyncMutex<()>>>>,
}

/// The right to run a large attempt.
#[derive(Debug)]
pub(super) struct LargeAttempt {
    _all: OwnedMutexGuard<()>,
    _share: OwnedMutexGuard<()>,
}

impl LargeAttempts {
    /// Waits for the right to run a large attempt.
    pub(super) async fn acquire(&self, class: Class) -> LargeAttempt {
        let of_share = self.of_share(class.share()).lock_owned().await;
        LargeAttempt {
            _all: Arc::clone(&self.all).lock_owned().await,
            _share: of_share,
        }
    }

    fn of_share(&self, share: Share) -> Arc<AsyncMutex<()>> {
        let mut shares = self.shares.lock();
        // A guard and a waiter hold a reference to their lock. A lock without both is removed.
        shares.retain(|other, lock| *other == share || Arc::strong_count(lock) > 1);
        Arc::clone(shares.entry(share).or_default())
    }
}
