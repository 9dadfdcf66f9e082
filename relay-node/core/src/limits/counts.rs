//! How many connections are open, in all and by whom.

use std::collections::BTreeMap;

use super::Prefix;

/// Connections at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionsConfig {
    /// In all. Default 10,000.
    pub total: usize,
    /// From one address prefix. Default 1,000.
    pub per_prefix: usize,
    /// Of one identity. Default 16.
    pub per_identity: usize,
    /// Without a Hello so far, in all. Default 1,000.
    pub pending: usize,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            total: 10_000,
            per_prefix: 1_000,
            per_identity: 16,
            pending: 1_000,
        }
    }
}

/// Which count is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionsError {
    /// [`ConnectionsConfig::total`].
    #[error("relay has all the connections it takes")]
    Total,
    /// [`ConnectionsConfig::pending`].
    #[error("too many connections have not said who they are")]
    Pending,
    /// [`ConnectionsConfig::per_prefix`].
    #[error("too many connections from this network")]
    Prefix,
    /// [`ConnectionsConfig::per_identity`].
    #[error("too many connections of this identity")]
    Identity,
}

/// Counts connections; its tables never hold more entries than there are connections.
#[derive(Debug)]
pub struct Connections {
    config: ConnectionsConfig,
    total: usize,
    pending: usize,
    prefixes: BTreeMap<Prefix, usize>,
    identities: BTreeMap<[u8; 32], usize>,
}

/// A connection that was counted, to be given back with [`Connections::close`].
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    prefix: Prefix,
    identity: Option<[u8; 32]>,
}

impl Connections {
    /// None open.
    pub fn new(config: ConnectionsConfig) -> Self {
        Self {
            config,
            total: 0,
            pending: 0,
            prefixes: BTreeMap::new(),
            identities: BTreeMap::new(),
        }
    }

    /// Counts a new connection, whose identity is not known yet.
    ///
    /// # Errors
    /// [`ConnectionsError`] by the first limit that is reached.
    pub fn open(&mut self, prefix: Prefix) -> Result<Admitted, ConnectionsError> {
        if self.total >= self.config.total {
            return Err(ConnectionsError::Total);
        }
        if self.pending >= self.config.pending {
            return Err(ConnectionsError::Pending);
        }
        if !count(&mut self.prefixes, prefix, self.config.per_prefix) {
            return Err(ConnectionsError::Prefix);
        }
        self.total += 1;
        self.pending += 1;
        Ok(Admitted {
            prefix,
            identity: None,
        })
    }

    /// Counts the connection among those of `identity`, which it has proven to be.
    ///
    /// # Errors
    /// [`ConnectionsError::Identity`]; the connection stays counted as before.
    pub fn identify(&mut self, admitted: &mut Admitted, identity: [u8; 32]) -> Result<(), ConnectionsError> {
        if admitted.identity.is_some() {
            return Ok(());
        }
        if !count(&mut self.identities, identity, self.config.per_identity) {
            return Err(ConnectionsError::Identity);
        }
        self.pending -= 1;
        admitted.identity = Some(identity);
        Ok(())
    }

    /// The connection is gone.
    pub fn close(&mut self, admitted: Admitted) {
        self.total -= 1;
        discount(&mut self.prefixes, admitted.prefix);
        match admitted.identity {
            Some(identity) => discount(&mut self.identities, identity),
            None => self.pending -= 1,
        }
    }

    /// Open connections.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Open connections as a part of what is allowed.
    pub fn load(&self) -> f64 {
        self.total as f64 / self.config.total.max(1) as f64
    }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, limit: usize) -> bool {
    let now = counts.get(&key).copied().unwrap_or_default();
    if now < limit {
        counts.insert(key, now + 1);
    }
    now < limit
}

fn discount<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(now) = counts.get_mut(&key) {
        *now -= 1;
        if *now == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ConnectionsConfig = ConnectionsConfig {
        total: 6,
        per_prefix: 3,
        per_identity: 2,
        pending: 4,
    };

    fn prefix(net: u8) -> Prefix {
        Prefix::of([192, 0, net, 1].into())
    }

    #[test]
    fn every_limit_has_its_own_refusal() {
        let mut connections = Connections::new(CONFIG);
        let mut open: Vec<_> = (0..3).map(|_| connections.open(prefix(1)).unwrap()).collect();
        assert_eq!(connections.open(prefix(1)).unwrap_err(), ConnectionsError::Prefix);
        open.push(connections.open(prefix(2)).unwrap());
        assert_eq!(
            connections.open(prefix(2)).unwrap_err(),
            ConnectionsError::Pending
        );
        assert_eq!(connections.identify(&mut open[0], [1; 32]), Ok(()));
        assert_eq!(connections.identify(&mut open[1], [1; 32]), Ok(()));
        assert_eq!(
            connections.identify(&mut open[2], [1; 32]),
            Err(ConnectionsError::Identity)
        );
        open.push(connections.open(prefix(2)).unwrap());
        open.push(connections.open(prefix(2)).unwrap());
        assert_eq!(connections.open(prefix(3)).unwrap_err(), ConnectionsError::Total);
        for admitted in open {
            connections.close(admitted);
        }
        assert_eq!((connections.total, connections.pending), (0, 0));
        assert!(connections.prefixes.is_empty() && connections.identities.is_empty());
    }
}
