//! Which identities are connected to which relays: learned from the relays, kept nowhere else.

use std::collections::{BTreeSet, HashMap};

use wzp_identity::Fingerprint;
use wzp_wire::RelayId;

/// Who is online where.
#[derive(Debug, Default)]
pub(super) struct Presence {
    at: HashMap<Fingerprint, BTreeSet<RelayId>>,
}

impl Presence {
    pub(super) fn handle(&mut self, relay: &RelayId, fingerprint: Fingerprint, online: bool) {
        if online {
            self.at.entry(fingerprint).or_default().insert(relay.clone());
        } else if let Some(relays) = self.at.get_mut(&fingerprint) {
            relays.remove(relay);
            if relays.is_empty() {
                self.at.remove(&fingerprint);
            }
        }
    }

    /// A relay is gone, or tells anew who is there.
    pub(super) fn forget(&mut self, relay: &RelayId) {
        self.at.retain(|_, relays| {
            relays.remove(relay);
            !relays.is_empty()
        });
    }

    pub(super) fn of(&self, fingerprint: &Fingerprint) -> impl Iterator<Item = &RelayId> {
        self.at.get(fingerprint).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_online_as_long_as_one_relay_has_it() {
        let me = Fingerprint::from_bytes([1; 16]);
        let [a, b] = ["a", "b"].map(|id| RelayId::parse(id).unwrap());
        let mut presence = Presence::default();
        presence.handle(&a, me, true);
        presence.handle(&b, me, true);
        presence.handle(&a, me, false);
        assert_eq!(presence.of(&me).collect::<Vec<_>>(), [&b]);
        presence.forget(&b);
        assert_eq!(presence.of(&me).count(), 0);
        assert!(presence.at.is_empty());
    }
}
