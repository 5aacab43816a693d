//! How many downloads go on at once: so many in all, and fewer from one server, so that a slow one does not keep the others waiting.
//!
//! A server is what references name: one that is reached by many names has as many turns, and the bound on all holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;

const ALL: usize = 16;
const FROM_ONE: usize = 4;

/// The turns of downloads.
#[derive(Debug)]
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    servers: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A download's turn, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Turn {
    _one: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ALL)),
            servers: Mutex::default(),
        }
    }

    /// Waits for a turn with `server`. Who waits for that takes none from others.
    pub(crate) async fn take(&self, server: &str) -> Result<Turn, Error> {
        let one = self.semaphore(server).acquire_owned().await;
        let all = Arc::clone(&self.all).acquire_owned().await;
        match (one, all) {
            (Ok(one), Ok(all)) => Ok(Turn {
                _one: one,
                _all: all,
            }),
            _ => Err(Error::broke_off("waiting for a turn with")),
        }
    }

    fn semaphore(&self, server: &str) -> Arc<Semaphore> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // A permit holds its semaphore: what nobody holds is forgotten.
        servers.retain(|name, semaphore| name == server || Arc::strong_count(semaphore) > 1);
        Arc::clone(
            servers
                .entry(server.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(FROM_ONE))),
        )
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_server_has_few_turns_and_others_keep_theirs() {
        let turns = Turns::new();
        let mut held = Vec::new();
        for _ in 0..FROM_ONE {
            held.push(turns.take("slow").now_or_never().unwrap().unwrap());
        }
        // They wait, and go on waiting.
        let mut waiting: Vec<_> = (0..ALL).map(|_| turns.take("slow").boxed()).collect();
        assert!(
            waiting.iter_mut().all(|turn| turn.now_or_never().is_none()),
            "four go on already"
        );
        for server in ["a", "b", "c"] {
            for _ in 0..FROM_ONE {
                held.push(turns.take(server).now_or_never().unwrap().unwrap());
            }
        }
        assert!(
            turns.take("d").now_or_never().is_none(),
            "sixteen go on already"
        );
        drop((waiting, held));
        assert!(turns.take("slow").now_or_never().is_some());
        assert_eq!(
            turns.servers.lock().unwrap().len(),
            1,
            "what is over is forgotten"
        );
    }
}
