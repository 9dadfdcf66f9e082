//! The relay list as clients and relays get it: made once for each change, and signed.

use std::{sync::Arc, time::Duration};

use tokio::time;
use tracing::debug;
use wzp_control_core::{
    Address,
    list::{self, Band, Entry},
    registry::Offer,
};
use wzp_wire::{Instant, RelayId};

use super::{Command, Inner, Peer, Peers, Plane};
use crate::clock;

/// Changes that come together are told together.
const GATHER: Duration = Duration::from_millis(50);
const PER_RELAY: Duration = Duration::from_millis(2);
const RENEWED: Duration = Duration::from_secs(3_600);

/// Every relay that clients are told of.
#[derive(Clone, Debug, Default)]
pub(crate) struct List {
    pub(crate) generation: u64,
    pub(crate) issued_at: u64,
    pub(crate) relays: Vec<Listed>,
    pub(super) peers: Arc<Peers>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) relay: RelayId,
    pub(crate) region: Box<str>,
    pub(crate) zone: Box<str>,
    pub(crate) offer: Offer,
    pub(crate) band: Band,
    pub(crate) weight: u32,
    pub(crate) addresses: Vec<Address>,
    pub(crate) certificates: Vec<[u8; 32]>,
}

impl Plane {
    /// Makes the list anew after every change, for as long as the process serves.
    pub(super) async fn publish(&self) {
        loop {
            // Made anew now and then though nothing changes, so that a copy of it never gets too old to go by.
            if time::timeout(RENEWED, self.list_changed.notified()).await.is_ok() {
                time::sleep(GATHER).await;
            }
            self.publish_now();
        }
    }

    /// Makes the list as it is now, and tells everybody.
    pub(super) fn publish_now(&self) {
        let list = self.look(|inner, now| inner.list(now));
        debug!(
            generation = list.generation,
            relays = list.relays.len(),
            "published the relay list"
        );
        self.list.send_replace(Arc::new(list));
    }

    /// Tells relays of the list. To tell each of a thousand of all others takes a while, so the more there are, the more
    /// changes are told of together.
    pub(super) async fn tell_peers(&self) {
        let mut lists = self.list_updates();
        while lists.changed().await.is_ok() {
            let peers = Arc::clone(&lists.borrow_and_update().peers);
            let attached = self.with(|inner, _| {
                inner.broadcast(&Command::Peers(peers));
                inner.attached()
            });
            time::sleep(PER_RELAY * u32::try_from(attached).unwrap_or(u32::MAX)).await;
        }
    }
}

impl Inner {
    fn list(&self, now: Instant) -> List {
        let generation = self.world.registry.generation();
        let entries: Vec<Entry<'_>> = list::entries(&self.world.registry).collect();
        let peers = Peers {
            generation,
            relays: entries.iter().map(|entry| peer(entry, now)).collect(),
        };
        List {
            generation,
            issued_at: clock::unix_seconds(),
            relays: entries.iter().map(listed).collect(),
            peers: Arc::new(peers),
        }
    }
}

fn listed(entry: &Entry<'_>) -> Listed {
    let hello = &entry.relay.hello;
    Listed {
        relay: hello.relay.clone(),
        region: hello.place.region.clone(),
        zone: hello.place.zone.clone(),
        offer: entry.offer,
        band: entry.band,
        weight: entry.weight,
        addresses: entry.relay.verified().collect(),
        certificates: hello.certificates.clone(),
    }
}

fn peer(entry: &Entry<'_>, now: Instant) -> Peer {
    let hello = &entry.relay.hello;
    Peer {
        relay: hello.relay.clone(),
        boot: hello.boot,
        place: hello.place.clone(),
        addresses: entry.relay.verified().collect(),
        certificates: hello.certificates.clone(),
        draining: entry.offer == Offer::Draining,
        load_permille: permille(entry.relay.load.corrected(now)),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest integer that there is"
)]
pub(crate) fn permille(ratio: f32) -> u32 {
    (ratio * 1_000.0).round() as u32
}
