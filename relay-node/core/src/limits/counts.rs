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
    /// Without a Hello so far, in all. Default 1,000. A sixteenth of it, and at least 16, from one address prefix.
    pub pending: usize,
    /// Of probes, in all. Default 512.
    pub probes: usize,
    /// Of probes from one address prefix. Default 8.
    pub probes_per_prefix: usize,
}

impl ConnectionsConfig {
    fn pending_per_prefix(self) -> usize {
        (self.pending / 16).max(16)
    }
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            total: 10_000,
            per_prefix: 1_000,
            per_identity: 16,
            pending: 1_000,
            probes: 512,
            probes_per_prefix: 8,
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
    /// The part of [`ConnectionsConfig::pending`] that one prefix has.
    #[error("too many connections from this network have not said who they are")]
    PendingPrefix,
    /// [`ConnectionsConfig::probes`] or [`ConnectionsConfig::probes_per_prefix`].
    #[error("too many probes")]
    Probes,
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
    probes: usize,
    prefixes: BTreeMap<Prefix, usize>,
    pending_prefixes: BTreeMap<Prefix, usize>,
    probe_prefixes: BTreeMap<Prefix, usize>,
    identities: BTreeMap<[u8; 32], usize>,
}

/// A connection that was counted, to be given back with [`Connections::close`].
#[derive(Debug)]
#[must_use]
pub struct Admitted {
    prefix: Prefix,
    identity: Option<[u8; 32]>,
    probe: bool,
}

impl Connections {
    /// None open.
    pub fn new(config: ConnectionsConfig) -> Self {
        Self {
            config,
            total: 0,
            pending: 0,
            probes: 0,
            prefixes: BTreeMap::new(),
            pending_prefixes: BTreeMap::new(),
            probe_prefixes: BTreeMap::new(),
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
        let pending = unless_loopback(prefix, self.config.pending_per_prefix());
        if !count(&mut self.pending_prefixes, prefix, pending) {
            discount(&mut self.prefixes, prefix);
            return Err(ConnectionsError::PendingPrefix);
        }
        self.total += 1;
        self.pending += 1;
        Ok(Admitted {
            prefix,
            identity: None,
            probe: false,
        })
    }

    /// Counts the connection among the probes.
    ///
    /// # Errors
    /// [`ConnectionsError::Probes`]; the connection stays counted as before.
    pub fn probe(&mut self, admitted: &mut Admitted) -> Result<(), ConnectionsError> {
        if admitted.probe {
            return Ok(());
        }
        let of_prefix = unless_loopback(admitted.prefix, self.config.probes_per_prefix);
        if self.probes >= self.config.probes || !count(&mut self.probe_prefixes, admitted.prefix, of_prefix) {
            return Err(ConnectionsError::Probes);
        }
        self.probes += 1;
        admitted.probe = true;
        Ok(())
    }

    /// Whether more than a tenth of those who may be without a Hello are.
    pub fn is_crowded(&self) -> bool {
        self.pending > self.config.pending / 10
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
        discount(&mut self.pending_prefixes, admitted.prefix);
        admitted.identity = Some(identity);
        Ok(())
    }

    /// The connection is gone.
    pub fn close(&mut self, admitted: Admitted) {
        self.total -= 1;
        discount(&mut self.prefixes, admitted.prefix);
        match admitted.identity {
            Some(identity) => discount(&mut self.identities, identity),
            None => {
                self.pending -= 1;
                discount(&mut self.pending_prefixes, admitted.prefix);
            }
        }
        if admitted.probe {
            self.probes -= 1;
            discount(&mut self.probe_prefixes, admitted.prefix);
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

/// Whoever is on this machine has no network to be told from others by.
fn unless_loopback(prefix: Prefix, limit: usize) -> usize {
    if prefix.is_loopback() { usize::MAX } else { limit }
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
        probes: 3,
        probes_per_prefix: 2,
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
        assert!(connections.pending_prefixes.is_empty());
    }

    #[test]
    fn one_network_cannot_take_all_the_room_for_those_without_a_hello() {
        let mut connections = Connections::new(ConnectionsConfig::default());
        let mut open: Vec<_> = (0..62).map(|_| connections.open(prefix(1)).unwrap()).collect();
        assert_eq!(
            connections.open(prefix(1)).unwrap_err(),
            ConnectionsError::PendingPrefix
        );
        assert!(!connections.is_crowded());
        open.push(connections.open(prefix(2)).unwrap());
        connections.identify(&mut open[0], [1; 32]).unwrap();
        open.push(connections.open(prefix(1)).unwrap());
        let loopback = Prefix::of([127, 0, 0, 1].into());
        open.extend((0..200).map(|_| connections.open(loopback).unwrap()));
        assert!(connections.is_crowded());
        for admitted in open {
            connections.close(admitted);
        }
        assert!(!connections.is_crowded());
        assert!(connections.prefixes.is_empty() && connections.pending_prefixes.is_empty());
    }

    #[test]
    fn probes_have_a_count_of_their_own() {
        let mut connections = Connections::new(CONFIG);
        let mut open: Vec<_> = [1, 1, 1, 2]
            .map(|net| connections.open(prefix(net)).unwrap())
            .into();
        assert_eq!(connections.probe(&mut open[0]), Ok(()));
        assert_eq!(connections.probe(&mut open[0]), Ok(()));
        assert_eq!(connections.probe(&mut open[1]), Ok(()));
        assert_eq!(connections.probe(&mut open[2]), Err(ConnectionsError::Probes));
        assert_eq!(connections.probe(&mut open[3]), Ok(()));
        connections.identify(&mut open[0], [1; 32]).unwrap();
        let mut local = connections.open(Prefix::of([127, 0, 0, 1].into())).unwrap();
        assert_eq!(connections.probe(&mut local), Err(ConnectionsError::Probes));
        connections.close(open.remove(0));
        assert_eq!(connections.probe(&mut local), Ok(()));
        open.push(local);
        for admitted in open {
            connections.close(admitted);
        }
        assert_eq!(connections.probes, 0);
        assert!(connections.probe_prefixes.is_empty());
    }
}
