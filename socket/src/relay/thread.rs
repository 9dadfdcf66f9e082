//! The loop of one IO thread: no lock, no allocation and no log between a lane packet in and its copies out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wzp_lane::demux::{Class, ResetQuota, Rule};
use wzp_lane::{OpenError, Opened};
use wzp_wire::Instant;

use crate::address::Address;
use crate::clock;
use crate::counters::Counters;
use crate::prefetch;
use crate::recv::{BATCH, Datagram, RecvBatch};
use crate::relay::queue::{Queue, Sender};
use crate::relay::rest::Rests;
use crate::relay::sessions::Sessions;
use crate::relay::table::{Entry, LaneTable};
use crate::send::SendBatch;
use crate::udp::Udp;

/// What a relay does with the datagrams of its lanes. One per IO thread.
pub trait Handler<T>: Send {
    /// A datagram that came out of a lane packet which opened. Must not block, allocate or log.
    fn datagram(
        &mut self,
        now: Instant,
        lane: &Arc<Entry<T>>,
        arrival: &Arrival,
        datagram: &[u8],
        out: &mut SendBatch,
    );

    /// Called once per turn of the loop, behind its packets, and at least once per
    /// [`Config::tick`](crate::relay::Config::tick).
    fn tick(&mut self, now: Instant, load: Load, out: &mut SendBatch) {
        let _ = (now, load, out);
    }
}

/// How a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// From where, and at which of our addresses.
    pub from: Address,
    /// The packet's number on its lane, which a PONG confirms.
    pub counter: u64,
    /// Whether it is the newest packet of its lane so far: only such a one may move an address.
    pub newest: bool,
    /// Length of the whole packet: an unproven address may be sent 3 times as much.
    pub packet_len: usize,
}

/// How busy the last turn of the loop was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Full batches in a row: more is arriving than one turn handles. Shed load before it falls over.
    pub full_batches_in_a_row: u32,
    /// Datagrams that the kernel has ever dropped because the receive buffer of this thread was full.
    pub kernel_dropped: u64,
}

/// What an IO thread works on.
pub(crate) struct IoThread<T> {
    pub(crate) udp: Arc<Udp>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) lanes: Arc<LaneTable<T>>,
    pub(crate) rule: Rule,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) tick: Duration,
}

impl<T> IoThread<T> {
    pub(crate) fn run(self, handler: &mut impl Handler<T>) {
        let mut batch = RecvBatch::new();
        let mut out = SendBatch::new(Arc::clone(&self.udp), Arc::clone(&self.counters));
        let mut resets = ResetQuota::default();
        let mut load = Load::default();
        let mut rests = Rests::default();
        while !self.stop.load(Ordering::Acquire) {
            if load.full_batches_in_a_row == 0 {
                self.udp.wait(self.tick);
            }
            self.counters.ticks.add(1);
            let now = clock::now();
            // An error belongs to a datagram sent earlier, or to the interface: the socket lives on.
            let n = batch.recv(&self.udp, &self.counters).unwrap_or(0);
            if n > 1 {
                self.fetch(batch.bytes());
            }
            let queued = self.counters.quic_queued.value();
            for datagram in batch.datagrams() {
                self.datagram(now, datagram, &mut resets, handler, &mut out);
            }
            load.full_batches_in_a_row = if n == BATCH {
                load.full_batches_in_a_row.saturating_add(1)
            } else {
                0
            };
            load.kernel_dropped = self.counters.kernel_dropped.value();
            self.counters.full_batches.add(u64::from(n == BATCH));
            handler.tick(now, load, &mut out);
            out.flush();
            let quic = self.counters.quic_queued.value() - queued;
            if quic > 0 {
                self.queue.wake();
            }
            if let Some(rest) = rests.after(now, n, quic) {
                thread::sleep(rest);
            }
        }
    }

    /// Has the lanes of a whole batch fetched into the cache, instead of waiting for each.
    fn fetch<'a>(&self, batch: impl Iterator<Item = &'a [u8]>) {
        for found in batch.filter_map(|bytes| self.lanes.find(self.rule.id(bytes)?)) {
            prefetch(&**found.entry());
        }
    }

    fn datagram(
        &self,
        now: Instant,
        datagram: Datagram<'_>,
        resets: &mut ResetQuota,
        handler: &mut impl Handler<T>,
        out: &mut SendBatch,
    ) {
        match self.rule.classify(datagram.bytes) {
            Class::Quic => self.queue.push(&datagram, self.sender(&datagram), &self.counters),
            Class::Drop(_) => self.counters.dropped_malformed.add(1),
            Class::Lane => {
                let id = self.rule.id(datagram.bytes).unwrap_or_default();
                let Some(found) = self.lanes.find(id) else {
                    self.counters.lane_unknown.add(1);
                    return self.perhaps_reset(now, &datagram, resets);
                };
                let lane = found.entry();
                prefetch(&**lane);
                let opened = match lane.opener.open(datagram.bytes) {
                    Ok(opened) => opened,
                    Err(error) => return self.unopened(now, &error, &datagram, resets),
                };
                self.counters.lane_opened.add(1);
                let arrival = arrival(&datagram, &opened);
                let inside = datagram.bytes.get(opened.range).unwrap_or_default();
                handler.datagram(now, lane, &arrival, inside, out);
            }
        }
    }

    fn unopened(&self, now: Instant, error: &OpenError, datagram: &Datagram<'_>, resets: &mut ResetQuota) {
        if matches!(error, OpenError::Replay | OpenError::TooOld) {
            return self.counters.lane_replayed.add(1);
        }
        self.counters.lane_failed.add(1);
        self.perhaps_reset(now, datagram, resets);
    }

    fn sender(&self, datagram: &Datagram<'_>) -> Sender {
        let long = datagram.bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        if !long && self.sessions.contains(datagram.from.remote()) {
            Sender::Known
        } else {
            Sender::Stranger
        }
    }

    /// Half of all stateless resets look like lane packets: quinn compares their last 16 bytes.
    fn perhaps_reset(&self, now: Instant, datagram: &Datagram<'_>, resets: &mut ResetQuota) {
        if self.sessions.contains(datagram.from.remote()) && resets.take(now) {
            self.counters.reset_candidates.add(1);
            self.queue.push(datagram, Sender::Known, &self.counters);
        }
    }
}

fn arrival(datagram: &Datagram<'_>, opened: &Opened) -> Arrival {
    Arrival {
        from: datagram.from,
        counter: opened.counter,
        newest: opened.newest,
        packet_len: datagram.bytes.len(),
    }
}
