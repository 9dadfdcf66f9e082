//! Members change their address: the rare ways around the trusted one.
//!
//! Packets from the trusted address, with nothing under way, touch neither the tracker nor its lock.

use std::sync::atomic::Ordering::Relaxed;

use wzp_lane::path::{Content, Received};
use wzp_socket::{Address, relay::Arrival, send::SendBatch};
use wzp_wire::{Datagram, Instant, Ping, Pong, datagram::PING_LEN};

use super::Round;
use crate::port::OutLane;

/// Takes in where a packet came from, and asks a new address to prove itself.
pub(super) fn follow(round: &mut Round<'_>, lane: &OutLane, arrival: &Arrival, datagram: &[u8]) {
    let trusted = lane.out.address();
    if trusted == arrival.from && lane.settled.load(Relaxed) {
        return;
    }
    let mut tracker = lane.tracker();
    if trusted.local().is_none() && trusted.remote() == arrival.from.remote() {
        // We called and did not know from which of our addresses; this packet says so.
        tracker.set(arrival.from);
        return lane.out.move_to(arrival.from);
    }
    let content = match Datagram::decode(datagram) {
        Ok(Datagram::Pong(_) | Datagram::Ping(Ping { probe: true, .. })) => Content::Probe,
        _ => Content::Settled,
    };
    let received = Received {
        from: arrival.from,
        newest: arrival.newest,
        content,
        bytes: arrival.packet_len,
    };
    if let Some(back) = tracker.handle_packet(round.now, &received) {
        lane.out.move_to(back);
    }
    let packet_len = PING_LEN + lane.out.sealer.overhead();
    while let Some(ping) = tracker.poll_ping(round.now, round.nonces.next(), packet_len) {
        round.ping_at(lane, &ping.to, ping.nonce, true);
    }
    lane.settled.store(tracker.is_settled(), Relaxed);
}

/// An answer from an address that was asked to prove itself moves the lane there; `true` then.
pub(super) fn handle_pong(now: Instant, lane: &OutLane, arrival: &Arrival, pong: &Pong) -> bool {
    if lane.settled.load(Relaxed) {
        return false;
    }
    let mut tracker = lane.tracker();
    let moved = tracker.handle_pong(now, arrival.from, pong.nonce);
    if let Some(moved) = moved {
        lane.out.move_to(moved);
    }
    lane.settled.store(tracker.is_settled(), Relaxed);
    moved.is_some()
}

/// While an address is being proven, it gets a copy of the media, within limits.
pub(super) fn copy(round: &mut Round<'_>, lane: &OutLane, datagram: &[u8]) {
    if lane.settled.load(Relaxed) {
        return;
    }
    let packet_len = datagram.len() + lane.out.sealer.overhead();
    let to = {
        let mut tracker = lane.tracker();
        let to = tracker.poll_copy(round.now, packet_len);
        lane.settled.store(tracker.is_settled(), Relaxed);
        to
    };
    if let Some(to) = to {
        seal_to(lane, &to, datagram, round.out);
    }
}

/// A PONG goes to where its PING came from, whatever the trusted address is.
pub(super) fn answer(lane: &OutLane, ping: &Arrival, datagram: &[u8], out: &mut SendBatch) {
    let packet_len = datagram.len() + lane.out.sealer.overhead();
    if lane.settled.load(Relaxed) || lane.tracker().charge(&ping.from, packet_len) {
        out.seal_pong(&lane.out, &ping.from, ping.counter, datagram);
    }
}

fn seal_to(lane: &OutLane, to: &Address, datagram: &[u8], out: &mut SendBatch) {
    let sealer = &lane.out.sealer;
    out.push(to, |buf| {
        let room = buf.get_mut(sealer.header_len()..)?.get_mut(..datagram.len())?;
        room.copy_from_slice(datagram);
        // The nonce or the tag inside: as random as the spin bit has to be.
        let spin = datagram
            .get(1..9)
            .is_some_and(|bytes| bytes.iter().fold(0, |sum, byte| sum ^ byte) & 1 == 1);
        sealer.seal(buf, datagram.len(), spin).ok()
    });
}
