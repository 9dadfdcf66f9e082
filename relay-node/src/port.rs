//! Somebody connected, as a place to send to: its lane, its QUIC connection, its signalling queue.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use wzp_lane::{
    Sealer,
    alive::Alive,
    path::{Roaming, Tracker},
};
use wzp_relay_core::{
    FanOut, Origin, limits::SharedBucket, probe::Probe, rooms::TrunkId, stats::Leg, trunk::Side,
};
use wzp_socket::{Address, Outgoing, clock, prefetch};
use wzp_wire::{RelayId, RoomName, SenderId};

use crate::outbox::Outbox;

/// Handles of one side of a trunk: so many pages, made when first used.
const PAGES: usize = 128;
const PAGE: usize = 256;
/// The snapshot of a room, replaced on every change.
pub(crate) type RoomCell = ArcSwap<FanOut<Arc<Port>>>;

/// One connection.
pub(crate) struct Port {
    pub(crate) id: TrunkId,
    pub(crate) leg: Leg,
    /// The identity it has proven to be; zeros for a relay that we called.
    pub(crate) peer: [u8; 32],
    pub(crate) connection: quinn::Connection,
    pub(crate) outbox: Outbox,
    pub(crate) seats: Seats,
    pub(crate) bucket: SharedBucket,
    /// The relay of the same cluster at the other end.
    pub(crate) link: Option<Link>,
    lane: ArcSwapOption<OutLane>,
    carrier: AtomicU8,
}

/// Another relay of the same cluster, which serves the same rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its name, as its certificate shows.
    pub(crate) relay: RelayId,
    /// Which end we are: the one that called is the downstream one.
    pub(crate) side: Side,
}

/// Which rooms are reached through a connection.
pub(crate) enum Seats {
    /// A member: one at most.
    Member(ArcSwapOption<Seat>),
    /// A trunk: by the handles that the other relay gives out.
    Trunk(Box<[OnceLock<Page>]>),
    /// None; what comes back on the PINGs sent to it is measured.
    Probe(Arc<Mutex<Probe>>),
    /// None; it gets answers to its PINGs.
    Asker,
}

type Page = Box<[ArcSwapOption<Seat>]>;

/// A member's place in its room.
pub(crate) struct Seat {
    pub(crate) sender: SenderId,
    pub(crate) room: RoomName,
    pub(crate) cell: Arc<RoomCell>,
    pub(crate) origin: Origin,
}

impl Seat {
    /// Of a member of ours, or behind a relay in forward mode.
    pub(crate) fn of(sender: SenderId, room: RoomName, cell: Arc<RoomCell>) -> Self {
        Self {
            sender,
            room,
            cell,
            origin: Origin::Here,
        }
    }
}

/// How datagrams reach a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Lane = 0,
    Quic = 1,
}

/// A lane we send on, and what is known of its other end. Packets need what stands first.
#[repr(C)]
pub(crate) struct OutLane {
    pub(crate) out: Outgoing,
    /// The tracker has nothing under way, so packets from the trusted address need not ask it.
    pub(crate) settled: AtomicBool,
    pub(crate) alive: Alive,
    tracker: Mutex<Tracker>,
}

impl OutLane {
    /// A lane to the proven address of `connection`.
    pub(crate) fn new(sealer: Sealer, connection: &quinn::Connection, roaming: Roaming) -> Self {
        let address = Address::new(connection.remote_address(), connection.local_ip());
        Self {
            out: Outgoing::new(sealer, address),
            alive: Alive::new(clock::now()),
            settled: AtomicBool::new(true),
            tracker: Mutex::new(Tracker::new(roaming, address)),
        }
    }

    /// Has what sending needs fetched into the cache.
    pub(crate) fn fetch(&self) {
        prefetch(&self.out);
        prefetch(&self.settled);
    }

    /// Only for packets that come from, or go to, an address which is not the trusted one.
    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    pub(crate) fn member() -> Self {
        Self::Member(ArcSwapOption::empty())
    }

    pub(crate) fn trunk() -> Self {
        Self::Trunk((0..PAGES).map(|_| OnceLock::new()).collect())
    }

    /// Whom the other relay means by `handle`.
    pub(crate) fn find(&self, handle: u16) -> Option<Guard<Option<Arc<Seat>>>> {
        let Self::Trunk(pages) = self else { return None };
        let (page, slot) = place(handle);
        Some(pages.get(page)?.get()?.get(slot)?.load())
    }

    /// The same, to keep.
    pub(crate) fn whom(&self, handle: u16) -> Option<Arc<Seat>> {
        self.find(handle)?.as_ref().map(Arc::clone)
    }

    /// Remembers, or forgets, whom the other relay means by `handle`.
    pub(crate) fn enter(&self, handle: u16, seat: Option<Arc<Seat>>) {
        let Self::Trunk(pages) = self else { return };
        let (page, slot) = place(handle);
        let new = || (0..PAGE).map(|_| ArcSwapOption::empty()).collect();
        if let Some(slot) = pages.get(page).and_then(|page| page.get_or_init(new).get(slot)) {
            slot.store(seat);
        }
    }
}

/// Page and slot of a handle, whose top bit only says whose it is.
fn place(handle: u16) -> (usize, usize) {
    let number = usize::from(handle) % (PAGES * PAGE);
    (number / PAGE, number % PAGE)
}

impl Port {
    pub(crate) fn new(
        connection: quinn::Connection,
        peer: [u8; 32],
        leg: Leg,
        seats: Seats,
        outbox: Outbox,
        link: Option<Link>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: TrunkId(NEXT.fetch_add(1, Relaxed)),
            leg,
            peer,
            connection,
            outbox,
            seats,
            bucket: SharedBucket::default(),
            link,
            lane: ArcSwapOption::empty(),
            carrier: AtomicU8::new(Carrier::Quic as u8),
        })
    }

    /// A handle of ours as the relay at the other end knows it. Relays in forward mode know them as they are.
    pub(crate) fn marked(&self, handle: u16) -> u16 {
        match &self.link {
            Some(link) => link.side.mark(handle),
            None => handle,
        }
    }

    /// The lane to send on, if there is one.
    pub(crate) fn lane(&self) -> Guard<Option<Arc<OutLane>>> {
        self.lane.load()
    }

    /// Sends on `lane` from now on.
    pub(crate) fn set_lane(&self, lane: OutLane) {
        self.lane.store(Some(Arc::new(lane)));
        self.set_carrier(Carrier::Lane);
    }

    pub(crate) fn carrier(&self) -> Carrier {
        match self.carrier.load(Relaxed) {
            0 => Carrier::Lane,
            _ => Carrier::Quic,
        }
    }

    /// We answer on the carrier on which the other end last sent what was no probe.
    pub(crate) fn set_carrier(&self, carrier: Carrier) {
        if self.carrier() != carrier {
            self.carrier.store(carrier as u8, Relaxed);
        }
    }
}
