//! The bounds of a listener.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Maximum size of a request's head, and of the buffers of one connection, in bytes.
pub(super) const MAX_HEAD: usize = 16 << 10;

/// The most that one listener holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub(super) connections: usize,
    /// Open connections that have not presented the token.
    pub(super) unverified: usize,
    /// Longest time from the start of a connection until it presents the token.
    pub(super) unverified_time: Duration,
    /// Longest time between two requests on a connection that has presented the token.
    pub(super) idle_time: Duration,
    /// Bytes of all request bodies that are being read.
    pub(super) body_bytes: usize,
    /// Descriptors that the listener keeps for new connections when the process has no other.
    pub(super) spare_descriptors: usize,
}

impl Bounds {
    /// The bounds of the agent's listener. Connections get a quarter of the descriptors, at least
    /// 32 and at most 512. Half of the connections are only for callers with the token.
    pub fn of_agent() -> Self {
        Self::for_agent(open_files())
    }

    /// The bounds of the admin listener. Connections get one sixteenth of the descriptors, at least
    /// 8 and at most 64. No connection has the token.
    pub fn of_admin() -> Self {
        Self::for_admin(open_files())
    }

    /// Maximum number of open sockets. A closed connection keeps its socket until its task has
    /// ended.
    pub(super) fn sockets(&self) -> usize {
        self.connections + self.connections / 4
    }

    fn for_agent(open_files: usize) -> Self {
        let connections = (open_files / 4).clamp(32, 512);
        Self {
            connections,
            unverified: connections / 2,
            unverified_time: Duration::from_secs(10),
            // Argo's agent closes its idle connections after 90 s. The agent must close them first:
            // a request on a connection that the executor closes is lost.
            idle_time: Duration::from_mins(2),
            body_bytes: 32 << 20,
            spare_descriptors: 8,
        }
    }

    fn for_admin(open_files: usize) -> Self {
        let connections = (open_files / 16).clamp(8, 64);
        Self {
            connections,
            unverified: connections,
            unverified_time: Duration::from_secs(5),
            idle_time: Duration::from_secs(5),
            body_bytes: 0,
            spare_descriptors: 4,
        }
    }
}

/// The number of files that this process may open. The executor raises its soft limit to the hard
/// limit.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile).maximum;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_at_most_half_of_the_descriptors() {
        for open_files in [256, 1024, 4096, 1 << 20] {
            let agent = Bounds::for_agent(open_files);
            let admin = Bounds::for_admin(open_files);
            let spare = agent.spare_descriptors + admin.spare_descriptors;
            let used = agent.sockets() + admin.sockets() + spare;
            assert!(used <= open_files / 2, "{used} of {open_files}");
            assert!(agent.unverified < agent.connections);
        }
    }
}
