//! What the packet loops count: plain numbers, one set a thread, read by the exporter at any time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Why a packet that could be opened was not forwarded, or a copy of it not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// The datagram cannot be read.
    Decode,
    /// The member is in no room, or its room does not know it (any more).
    NoRoom,
    /// The datagram bears another member's sender id.
    Sender,
    /// The connection sends more packets than it may.
    Rate,
    /// The relay is overloaded and others in the room are louder.
    Overload,
    /// A trunk carries a handle that stands for nobody.
    Handle,
    /// The receiver's lane waits for a PONG, or has been silent for 5 s.
    Silent,
    /// The packet does not fit into what the receiver's carrier takes.
    TooLarge,
    /// The receiver's connection has no room for more, or the send batch did not.
    QueueFull,
    /// The receiver's connection or lane is closed.
    Closed,
    /// Other relays serve the room under a newer lease.
    Epoch,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 11] = [
        Self::Decode,
        Self::NoRoom,
        Self::Sender,
        Self::Rate,
        Self::Overload,
        Self::Handle,
        Self::Silent,
        Self::TooLarge,
        Self::QueueFull,
        Self::Closed,
        Self::Epoch,
    ];

    /// The value of the label `reason`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::NoRoom => "no_room",
            Self::Sender => "sender",
            Self::Rate => "rate",
            Self::Overload => "overload",
            Self::Handle => "no_route",
            Self::Silent => "silent",
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Epoch => "epoch",
        }
    }
}

/// Between whom packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Leg {
    /// A member and this relay.
    Client,
    /// Another relay and this one.
    Mesh,
}

impl Leg {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Client, Self::Mesh];

    /// The value of the label `leg`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Mesh => "mesh",
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and their bytes.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Media packets; each one in a trunk counts.
    pub packets: Counter,
    /// Bytes of these packets, without lane, UDP and IP headers.
    pub bytes: Counter,
}

impl Traffic {
    /// `packets` packets of `bytes` bytes together.
    pub fn add(&self, packets: usize, bytes: usize) {
        self.packets.add(widen(packets));
        self.bytes.add(widen(bytes));
    }
}

/// Counts by upper bounds, the last of which is infinite, and the sum.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, rising.
    pub bounds: [u64; N],
    counts: [Counter; N],
    beyond: Counter,
    sum: Counter,
}

impl<const N: usize> Histogram<N> {
    /// An empty one.
    pub fn new(bounds: [u64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| Counter::default()),
            beyond: Counter::default(),
            sum: Counter::default(),
        }
    }

    /// Counts `n` observations of `value`.
    pub fn observe(&self, value: u64, n: u64) {
        let bucket = self.bounds.iter().position(|&bound| value <= bound);
        bucket
            .and_then(|at| self.counts.get(at))
            .unwrap_or(&self.beyond)
            .add(n);
        self.sum.add(value.saturating_mul(n));
    }

    /// Counts by bound, then what is beyond the last, and the sum of all values.
    pub fn read(&self) -> (impl Iterator<Item = (u64, u64)>, u64, u64) {
        let counts = self
            .bounds
            .iter()
            .zip(&self.counts)
            .map(|(&bound, count)| (bound, count.get()));
        (counts, self.beyond.get(), self.sum.get())
    }
}

/// Upper bounds of [`Counters::forward_latency_us`], in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 12] = [
    25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 102_400,
];
/// Upper bounds of [`Counters::fan_out`], in copies.
pub const FAN_OUT_BOUNDS: [u64; 10] = [0, 1, 2, 4, 8, 16, 32, 64, 256, 1_000];

/// Everything one packet loop counts.
#[derive(Debug)]
pub struct Counters {
    /// Media packets that were received and could be opened.
    pub received: [Traffic; 2],
    /// Media packets handed to the socket, or to QUIC as datagrams.
    pub sent: [Traffic; 2],
    dropped: [Counter; Dropped::ALL.len()],
    /// Packets not forwarded because others are louder.
    pub held_back: Counter,
    /// Copies made of each packet forwarded.
    pub fan_out: Histogram<10>,
    /// From reading the clock before a batch is received until the packet's copies are with the kernel.
    pub forward_latency_us: Histogram<12>,
    /// PINGs answered.
    pub pings: Counter,
    /// Lanes that moved to an address which had proven itself.
    pub moved: Counter,
    /// Rounds of the loop; it lives as long as this moves.
    pub ticks: Counter,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: Default::default(),
            sent: Default::default(),
            dropped: Default::default(),
            held_back: Counter::default(),
            fan_out: Histogram::new(FAN_OUT_BOUNDS),
            forward_latency_us: Histogram::new(LATENCY_BOUNDS_US),
            pings: Counter::default(),
            moved: Counter::default(),
            ticks: Counter::default(),
        }
    }
}

impl Counters {
    /// A packet came in.
    pub fn receive(&self, leg: Leg, len: usize) {
        let [client, mesh] = &self.received;
        pick(leg, client, mesh).add(1, len);
    }

    /// `copies` copies of a packet of `len` bytes went out.
    pub fn send(&self, leg: Leg, copies: usize, len: usize) {
        self.send_all(leg, copies, copies.saturating_mul(len));
    }

    /// `packets` packets of `bytes` bytes together went out.
    pub fn send_all(&self, leg: Leg, packets: usize, bytes: usize) {
        let [client, mesh] = &self.sent;
        pick(leg, client, mesh).add(packets, bytes);
    }

    /// `n` packets or copies were dropped.
    pub fn discard(&self, why: Dropped, n: u64) {
        if let Some(counter) = self.dropped.get(why as usize) {
            counter.add(n);
        }
    }

    /// How many have been dropped.
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why as usize).map_or(0, Counter::get)
    }

    /// `packets` packets took `time` from the socket to the socket.
    pub fn latency(&self, time: Duration, packets: u64) {
        self.forward_latency_us
            .observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), packets);
    }
}

fn pick<'a>(leg: Leg, client: &'a Traffic, mesh: &'a Traffic) -> &'a Traffic {
    match leg {
        Leg::Client => client,
        Leg::Mesh => mesh,
    }
}

fn widen(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_label_of_its_own() {
        let counters = Counters::default();
        for (n, why) in Dropped::ALL.into_iter().enumerate() {
            counters.discard(why, n as u64 + 1);
        }
        for (n, why) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(counters.dropped(why), n as u64 + 1, "{why:?}");
        }
        let labels: std::collections::BTreeSet<_> = Dropped::ALL.map(Dropped::label).into();
        assert_eq!(labels.len(), Dropped::ALL.len());
    }

    #[test]
    fn values_fall_into_the_first_bucket_that_holds_them() {
        let histogram = Histogram::new([1, 10]);
        histogram.observe(1, 2);
        histogram.observe(10, 1);
        histogram.observe(11, 3);
        let (counts, beyond, sum) = histogram.read();
        assert_eq!(counts.collect::<Vec<_>>(), [(1, 2), (10, 1)]);
        assert_eq!((beyond, sum), (3, 45));
    }
}
