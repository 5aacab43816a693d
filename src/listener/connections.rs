//! The table of a listener's open connections.
//!
//! If there are too many connections, the table decides which one to close:
//!
//! - A connection is *unverified* until it presents the token. If there are too many unverified
//!   connections, the table finds the address with the most unverified connections, and closes the
//!   oldest connection of this address. So callers with few addresses lose their own connections.
//! - If there are too many verified connections, the table closes the one whose body takes the
//!   longest. If no body is being read, the table closes the connection that is idle for the
//!   longest time, and otherwise the one with the oldest call. A call on an idle connection can be
//!   on its way, and would be lost. An unfinished body is more often an attack.
//! - If the bodies that are being read are too large together, the table closes the connection
//!   whose body takes the longest.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::bounds::Bounds;

/// What a connection does, in the order in which connections are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// A handler reads the body of the request.
    Body,
    /// The connection waits for a request, or the head of a request is incomplete.
    Idle,
    /// A handler works on the request, or the response is sent.
    Handling,
}

/// Number of a connection, unique in its table.
pub(super) type ConnectionId = u64;

#[derive(Debug)]
struct Entry {
    verified: bool,
    phase: Phase,
    /// Start of the phase. For an unverified connection, the start of the connection.
    since: Instant,
    /// Bytes of the request body in memory.
    body_bytes: usize,
    close: CancellationToken,
}

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    bounds: Bounds,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: ConnectionId,
    entries: HashMap<ConnectionId, Entry>,
    /// The addresses of the unverified connections, in the order of their start.
    unverified: BTreeMap<ConnectionId, IpAddr>,
    /// Number of unverified connections of each address.
    of_peer: HashMap<IpAddr, usize>,
    /// Bytes of all request bodies in memory.
    body_bytes: usize,
}

impl Open {
    fn add_unverified(&mut self, id: ConnectionId, peer: IpAddr) {
        self.unverified.insert(id, peer);
        *self.of_peer.entry(peer).or_default() += 1;
    }

    fn remove_unverified(&mut self, id: ConnectionId) {
        let Some(peer) = self.unverified.remove(&id) else {
            return;
        };
        if let Some(number) = self.of_peer.get_mut(&peer) {
            *number -= 1;
            if *number == 0 {
                self.of_peer.remove(&peer);
            }
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.remove_unverified(id);
        self.body_bytes -= entry.body_bytes;
        Some(entry)
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(entry) = self.remove(id) {
            entry.close.cancel();
        }
    }

    /// The oldest unverified connection of the address with the most unverified connections.
    fn oldest_unverified(&self) -> Option<ConnectionId> {
        let (crowded, _) = self.of_peer.iter().max_by_key(|(_, number)| **number)?;
        self.unverified
            .iter()
            .find(|(_, peer)| *peer == crowded)
            .map(|(id, _)| *id)
    }

    /// The verified connection, other than `but`, that is closed first.
    fn first_verified(
        &self,
        but: ConnectionId,
        may_close: impl Fn(&Entry) -> bool,
    ) -> Option<ConnectionId> {
        self.entries
            .iter()
            .filter(|(id, entry)| **id != but && entry.verified && may_close(entry))
            .min_by_key(|(_, entry)| (entry.phase, entry.since))
            .map(|(id, _)| *id)
    }
}

/// Whether other connections had to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowding {
    /// No connection was closed.
    Room,
    /// At least one connection was closed.
    Crowded,
}

/// A new connection in the table.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) id: ConnectionId,
    /// Cancelled when the table closes the connection.
    pub(super) close: CancellationToken,
    pub(super) crowding: Crowding,
}

impl Connections {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: Mutex::default(),
        }
    }

    /// Adds a connection. Closes another unverified connection if there are too many.
    pub(super) fn admit(&self, peer: IpAddr) -> Admitted {
        let mut open = self.open.lock();
        let mut crowding = Crowding::Room;
        if open.unverified.len() >= self.bounds.unverified
            && let Some(oldest) = open.oldest_unverified()
        {
            open.close(oldest);
            crowding = Crowding::Crowded;
        }
        let id = open.next;
        open.next += 1;
        let close = CancellationToken::new();
        let entry = Entry {
            verified: false,
            phase: Phase::Idle,
            since: Instant::now(),
            body_bytes: 0,
            close: close.clone(),
        };
        open.entries.insert(id, entry);
        open.add_unverified(id, peer.to_canonical());
        Admitted {
            id,
            close,
            crowding,
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&self, id: ConnectionId) {
        self.open.lock().remove(id);
    }

    /// Notes that a connection has presented the token. Closes another verified connection if there
    /// are too many.
    pub(super) fn verify(&self, id: ConnectionId) {
        let mut open = self.open.lock();
        let Some(entry) = open.entries.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut entry.verified, true) {
            return;
        }
        entry.since = Instant::now();
        open.remove_unverified(id);
        let verified = open.entries.len() - open.unverified.len();
        if verified > self.bounds.connections - self.bounds.unverified
            && let Some(first) = open.first_verified(id, |_| true)
        {
            open.close(first);
        }
    }

    /// Notes what a connection does now. Its request body is no longer in memory.
    pub(super) fn enter(&self, id: ConnectionId, phase: Phase) {
        let mut open = self.open.lock();
        let Some(entry) = open.entries.get_mut(&id) else {
            return;
        };
        entry.phase = phase;
        // An unverified connection has one time limit for all that it does.
        if entry.verified {
            entry.since = Instant::now();
        }
        let bytes = std::mem::take(&mut entry.body_bytes);
        open.body_bytes -= bytes;
    }

    /// Sets the bytes of a connection's request body. Closes other connections if the bodies of all
    /// connections are too large together.
    pub(super) fn hold(&self, id: ConnectionId, bytes: usize) {
        let mut open = self.open.lock();
        let Some(entry) = open.entries.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.body_bytes, bytes);
        open.body_bytes = open.body_bytes - before + bytes;
        while open.body_bytes > self.bounds.body_bytes
            && let Some(first) = open.first_verified(id, |entry| entry.body_bytes > 0)
        {
            open.close(first);
        }
    }

    /// Closes a connection because the process has no descriptor for a new one. Returns whether a
    /// connection was closed.
    pub(super) fn close_any(&self) -> bool {
        let mut open = self.open.lock();
        let idle = |entry: &Entry| entry.phase == Phase::Idle;
        let any = open
            .oldest_unverified()
            .or_else(|| open.first_verified(ConnectionId::MAX, idle));
        any.inspect(|id| open.close(*id)).is_some()
    }

    /// Closes the unverified connections that are open for too long, and the verified connections
    /// that are idle for too long.
    pub(super) fn close_late(&self, now: Instant) {
        self.close_all(|entry| {
            let age = now.saturating_duration_since(entry.since);
            match entry.verified {
                false => age >= self.bounds.unverified_time,
                true => entry.phase == Phase::Idle && age >= self.bounds.idle_time,
            }
        });
    }

    /// Closes all unverified connections.
    pub(super) fn close_unverified(&self) {
        self.close_all(|entry| !entry.verified);
    }

    fn close_all(&self, closes: impl Fn(&Entry) -> bool) {
        let mut open = self.open.lock();
        let closed = open.entries.iter().filter(|(_, entry)| closes(entry));
        let closed: Vec<_> = closed.map(|(id, _)| *id).collect();
        for id in closed {
            open.close(id);
        }
    }
}

#[cfg(test)]
mod tests;
