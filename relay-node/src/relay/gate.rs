//! Who may come how often: connections, handshakes and joins, counted by prefix and identity.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use wzp_relay_core::{
    admission::Refusal,
    limits::{Admitted, Buckets, Connections, Prefix},
};
use wzp_wire::Instant;

use super::Shared;
use crate::{config::Limits, random::random};

/// Everything that is counted or rated per prefix or identity.
pub(super) struct Gate {
    connections: Connections,
    /// Of addresses that have not proven to be there, and of those that have.
    unproven_handshakes: Buckets,
    handshakes: Buckets,
    joins: Buckets,
    prefix_joins: Buckets,
    /// By the identities of relays, whoever they bring.
    trunk_joins: Buckets,
}

impl Gate {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            connections: Connections::new(limits.connections),
            unproven_handshakes: Buckets::new(random(), limits.handshakes),
            handshakes: Buckets::new(random(), limits.handshakes),
            joins: Buckets::new(random(), limits.identity_joins),
            prefix_joins: Buckets::new(random(), limits.prefix_joins),
            trunk_joins: Buckets::new(random(), limits.trunk_joins),
        }
    }
}

impl Shared {
    /// Counts a new connection, as long as the ticket lives.
    pub(crate) fn ticket(self: &Arc<Self>, prefix: Prefix) -> Result<Ticket, Refusal> {
        let admitted = self.gate().connections.open(prefix)?;
        Ok(Ticket {
            relay: Arc::clone(self),
            admitted: Some(admitted),
        })
    }

    /// Whether somebody of this prefix may begin a handshake now.
    pub(crate) fn take_handshake(&self, prefix: Prefix, validated: bool, now: Instant) -> bool {
        let mut gate = self.gate();
        let gate = &mut *gate;
        let buckets = if validated {
            &mut gate.handshakes
        } else {
            &mut gate.unproven_handshakes
        };
        buckets.take(&prefix, now).is_ok()
    }

    /// So many have not said who they are that everybody has to prove the address first.
    pub(crate) fn is_crowded(&self) -> bool {
        self.gate().connections.is_crowded()
    }

    /// Takes a join from what an identity has.
    ///
    /// # Errors
    /// The time after which it may join again.
    pub(crate) fn take_join(&self, identity: &[u8; 32], now: Instant) -> Result<(), Duration> {
        self.gate().joins.take(identity, now)
    }

    /// Takes a join from what a network has.
    ///
    /// # Errors
    /// The time after which somebody there may join again.
    pub(crate) fn take_prefix_join(&self, prefix: Prefix, now: Instant) -> Result<(), Duration> {
        self.gate().prefix_joins.take_prefix(prefix, now)
    }

    /// Takes a join from what the relay `identity` may bring.
    ///
    /// # Errors
    /// The time after which it may bring another.
    pub(crate) fn take_trunk_join(&self, identity: &[u8; 32], now: Instant) -> Result<(), Duration> {
        self.gate().trunk_joins.take(identity, now)
    }

    pub(crate) fn open_connections(&self) -> (usize, f64) {
        let gate = self.gate();
        (gate.connections.total(), gate.connections.load())
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One counted connection.
pub(crate) struct Ticket {
    relay: Arc<Shared>,
    admitted: Option<Admitted>,
}

impl Ticket {
    /// Counts the connection among the probes.
    pub(crate) fn probe(&mut self) -> Result<(), Refusal> {
        match &mut self.admitted {
            Some(admitted) => Ok(self.relay.gate().connections.probe(admitted)?),
            None => Ok(()),
        }
    }

    /// Counts the connection among those of `identity`.
    pub(crate) fn identify(&mut self, identity: [u8; 32]) -> Result<(), Refusal> {
        match &mut self.admitted {
            Some(admitted) => Ok(self.relay.gate().connections.identify(admitted, identity)?),
            None => Ok(()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(admitted) = self.admitted.take() else {
            return;
        };
        let open = {
            let mut gate = self.relay.gate();
            gate.connections.close(admitted);
            gate.connections.total()
        };
        if !self.relay.lifecycle().admits() {
            self.relay.set(|state| state.handle_open(open));
        }
    }
}
