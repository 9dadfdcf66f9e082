//! From which addresses a stateless reset may come.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::address::canonical;

/// The addresses of live QUIC connections, as a counting filter: it may say yes for a stranger, never no for a friend.
///
/// Good enough since it only narrows what a quota limits, and it is read without a lock.
#[derive(Debug)]
pub struct Sessions {
    counts: Box<[AtomicU32]>,
    hasher: RandomState,
}

impl Sessions {
    /// Cells of the filter: 256 KiB, one in a hundred strangers passes with 650 sessions.
    const CELLS: usize = 1 << 16;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            counts: (0..Self::CELLS).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Remembers `remote` until the guard is dropped: call it for every QUIC connection, in both roles.
    pub fn enter(self: &Arc<Self>, remote: SocketAddr) -> Session {
        let cell = self.cell(remote);
        self.counts[cell].fetch_add(1, Ordering::Relaxed);
        Session {
            sessions: Arc::clone(self),
            cell,
        }
    }

    pub(crate) fn contains(&self, remote: SocketAddr) -> bool {
        self.counts[self.cell(remote)].load(Ordering::Relaxed) > 0
    }

    fn cell(&self, remote: SocketAddr) -> usize {
        self.hasher.hash_one(canonical(remote)) as usize % Self::CELLS
    }
}

/// A remembered address.
#[derive(Debug)]
pub struct Session {
    sessions: Arc<Sessions>,
    cell: usize,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.counts[self.cell].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_an_address_with_its_last_session() {
        let sessions = Sessions::new();
        let address: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let (a, b) = (
            sessions.enter(address),
            sessions.enter("[::ffff:192.0.2.1]:1".parse().unwrap()),
        );
        drop(a);
        assert!(sessions.contains(address));
        drop(b);
        assert!(!sessions.contains(address));
    }
}
