//! Somebody connected, as a place to send to: its lane, its QUIC connection, its signalling queue.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use wzp_lane::{
    Sealer,
    alive::Alive,
    path::{Roaming, Tracker},
};
use wzp_relay_core::{
    FanOut, admission::Refusal, limits::SharedBucket, probe::Probe, rooms::TrunkId, stats::Leg,
};
use wzp_socket::{Address, Outgoing, clock, prefetch};
use wzp_wire::{RoomName, SenderId};

/// Handles of one side of a trunk: so many pages, made when first used.
const PAGES: usize = 128;
const PAGE: usize = 256;
/// Messages that may wait for a slow reader.
const QUEUE_MESSAGES: usize = 4_096;
/// Bytes that may wait for a slow reader: what a newcomer to the largest room gets at once, twice.
const QUEUE_BYTES: usize = 4 << 20;
/// Messages of other members that may wait besides, and their bytes. What is beyond that is lost, and costs the
/// reader nothing else: it is not the reader who decides how much others send.
const PEER_MESSAGES: usize = 4_096;
const PEER_BYTES: usize = 512 << 10;

/// The part of that which one sender may have: who floods a member takes no place from others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// For a member, whom another one has little to say to at once.
    Member = 8,
    /// For a relay, with many members behind it to whom a newcomer has something to say.
    Relay = 2,
}

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
    lane: ArcSwapOption<OutLane>,
    carrier: AtomicU8,
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
            lane: ArcSwapOption::empty(),
            carrier: AtomicU8::new(Carrier::Quic as u8),
        })
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

/// The sending end of a connection's signalling queue.
pub(crate) struct Outbox {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
}

/// The receiving end.
pub(crate) struct Outgoings {
    queue: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
}

struct Queued {
    frame: Bytes,
    /// The member it is from, if it is not the relay's own.
    from: Option<u16>,
}

#[derive(Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    peers: Mutex<Peers>,
    cut: OnceLock<Cut>,
    told: Notify,
}

/// What others have sent and the reader has not taken: an entry for each of them, hence at most [`PEER_MESSAGES`].
#[derive(Default)]
struct Peers {
    all: Waiting,
    by_sender: BTreeMap<u16, Waiting>,
}

#[derive(Clone, Copy, Default)]
struct Waiting {
    bytes: usize,
    messages: usize,
}

impl Waiting {
    fn with(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes + bytes,
            messages: self.messages + 1,
        }
    }

    fn without(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(bytes),
            messages: self.messages.saturating_sub(1),
        }
    }

    fn fits(self, part: usize) -> bool {
        self.bytes <= PEER_BYTES / part && self.messages <= PEER_MESSAGES / part
    }
}

impl Peers {
    fn put(&mut self, from: u16, len: usize, share: Share) -> bool {
        let own = self.by_sender.get(&from).copied().unwrap_or_default().with(len);
        let all = self.all.with(len);
        let fits = all.fits(1) && own.fits(share as usize);
        if fits {
            self.all = all;
            self.by_sender.insert(from, own);
        }
        fits
    }

    fn take(&mut self, from: u16, len: usize) {
        self.all = self.all.without(len);
        let own = self
            .by_sender
            .get(&from)
            .copied()
            .unwrap_or_default()
            .without(len);
        if own.messages == 0 {
            self.by_sender.remove(&from);
        } else {
            self.by_sender.insert(from, own);
        }
    }
}

/// Why a session is ended from elsewhere.
#[derive(Clone, Debug)]
pub(crate) enum Cut {
    /// Its queue is full.
    SlowReader,
    /// With a goodbye.
    Goodbye(Refusal),
}

pub(crate) fn outbox() -> (Outbox, Outgoings) {
    let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES + PEER_MESSAGES);
    let shared = Arc::<Shared>::default();
    let outbox = Outbox {
        queue: sender,
        shared: Arc::clone(&shared),
    };
    let outgoings = Outgoings {
        queue: receiver,
        shared,
    };
    (outbox, outgoings)
}

impl Outbox {
    /// Queues a framed message of the relay's own. Whoever lets the queue fill up is cut off; nobody waits for it.
    pub(crate) fn push(&self, frame: Bytes) {
        let before = self.shared.waiting_bytes.fetch_add(frame.len(), Relaxed);
        let queued = Queued { frame, from: None };
        if before > QUEUE_BYTES || self.queue.try_send(queued).is_err() {
            self.cut(Cut::SlowReader);
        }
    }

    /// Queues a framed message of the member `from`; `false`, and it is lost, if too much of that member, or of all
    /// members, waits already.
    pub(crate) fn push_peer(&self, from: u16, share: Share, frame: Bytes) -> bool {
        let len = frame.len();
        if !self.shared.peers().put(from, len, share) {
            return false;
        }
        let queued = Queued {
            frame,
            from: Some(from),
        };
        let queued = self.queue.try_send(queued).is_ok();
        if !queued {
            self.shared.peers().take(from, len);
        }
        queued
    }

    /// Ends the session; the first reason counts.
    pub(crate) fn cut(&self, why: Cut) {
        if self.shared.cut.set(why).is_ok() {
            self.shared.told.notify_one();
        }
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoings {
    /// The next message. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let queued = self.queue.recv().await?;
        Some(self.taken(queued))
    }

    pub(crate) fn try_next(&mut self) -> Option<Bytes> {
        let queued = self.queue.try_recv().ok()?;
        Some(self.taken(queued))
    }

    fn taken(&self, Queued { frame, from }: Queued) -> Bytes {
        match from {
            Some(from) => self.shared.peers().take(from, frame.len()),
            None => {
                self.shared.waiting_bytes.fetch_sub(frame.len(), Relaxed);
            }
        }
        frame
    }

    /// Resolves once the session is to end.
    pub(crate) fn cut(&self) -> impl Future<Output = Cut> + use<> {
        let shared = Arc::clone(&self.shared);
        async move {
            loop {
                if let Some(why) = shared.cut.get() {
                    return why.clone();
                }
                shared.told.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cut(outbox: &Outbox) -> bool {
        outbox.shared.cut.get().is_some()
    }

    #[test]
    fn messages_of_others_are_lost_and_cut_nobody_off() {
        let (outbox, mut outgoings) = outbox();
        let big = Bytes::from(vec![0; 64 << 10]);
        let push = |from, frame: &Bytes| outbox.push_peer(from, Share::Member, frame.clone());
        let taken = (0..100).filter(|&from| push(from, &big)).count();
        assert_eq!(taken, 8);
        let own = Bytes::from_static(b"own");
        outbox.push(own.clone());
        for _ in 0..8 {
            assert_eq!(outgoings.try_next().map(|frame| frame.len()), Some(64 << 10));
        }
        assert_eq!(outgoings.try_next(), Some(own.clone()));
        let small = (0..10_000).filter(|n| push(n % 100, &own)).count();
        assert_eq!(small, PEER_MESSAGES);
        for _ in 0..QUEUE_MESSAGES {
            outbox.push(own.clone());
        }
        assert!(!is_cut(&outbox));
        outbox.push(own);
        assert!(is_cut(&outbox));
    }

    #[test]
    fn who_floods_a_reader_takes_no_place_from_others() {
        for (share, messages, bytes) in [(Share::Member, 512, 64 << 10), (Share::Relay, 2_048, 256 << 10)] {
            let (outbox, mut outgoings) = outbox();
            let (small, big) = (Bytes::from_static(b"small"), Bytes::from(vec![0; 4_096]));
            let flood = |from, frame: &Bytes| {
                let pushed = |_: &_| outbox.push_peer(from, share, frame.clone());
                (0..5_000).filter(pushed).count()
            };
            assert_eq!(flood(1, &small), messages);
            assert_eq!(flood(2, &big), bytes / 4_096);
            assert!(outbox.push_peer(3, share, small.clone()));
            assert!(!outbox.push_peer(1, share, small.clone()));
            // One read, one more.
            assert_eq!(outgoings.try_next(), Some(small.clone()));
            assert_eq!(flood(1, &small), 1);
            while outgoings.try_next().is_some() {}
            assert!(outbox.shared.peers().by_sender.is_empty());
        }
    }

    #[test]
    fn whoever_leaves_too_many_bytes_of_the_relay_is_cut_off() {
        let (outbox, _outgoings) = outbox();
        let big = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..5 {
            outbox.push(big.clone());
        }
        assert!(!is_cut(&outbox));
        outbox.push(big);
        assert!(is_cut(&outbox));
    }
}
