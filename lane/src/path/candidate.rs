//! One address that is not proven yet.

use std::time::Duration;

use wzp_wire::Instant;

use super::{AMPLIFICATION, Address, PROOF_TIME};

/// When PINGs go to a candidate, from its first packet on.
const SCHEDULE: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1_500),
];

#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) address: Address,
    pub(super) since: Instant,
    /// Rises with each newest packet of the lane: which candidate the peer used last.
    pub(super) order: u64,
    received: u64,
    sent: u64,
    pings: [Option<([u8; 8], Instant)>; SCHEDULE.len()],
    round: usize,
    owes_trusted: bool,
}

impl Candidate {
    pub(super) fn new(now: Instant, address: Address, bytes: usize, order: u64) -> Self {
        Self {
            address,
            since: now,
            order,
            received: bytes as u64,
            sent: 0,
            pings: [None; SCHEDULE.len()],
            round: 0,
            owes_trusted: false,
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// Whether `bytes` more may be sent; counts them if so.
    pub(super) fn charge(&mut self, bytes: usize) -> bool {
        let sent = self.sent.saturating_add(bytes as u64);
        if sent > self.received.saturating_mul(AMPLIFICATION) {
            return false;
        }
        self.sent = sent;
        true
    }

    /// A round is a PING to the candidate and one to the trusted address.
    pub(super) fn poll_ping(
        &mut self,
        now: Instant,
        trusted: Option<Address>,
        nonce: [u8; 8],
        bytes: usize,
    ) -> Option<Address> {
        if std::mem::take(&mut self.owes_trusted) && trusted.is_some() {
            return trusted;
        }
        let delay = SCHEDULE.get(self.round)?;
        if now < self.since + *delay {
            return None;
        }
        let round = self.round;
        self.round += 1;
        if !self.charge(bytes) {
            return trusted;
        }
        self.owes_trusted = true;
        *self.pings.get_mut(round)? = Some((nonce, now));
        Some(self.address)
    }

    pub(super) fn timeout(&self) -> Instant {
        if self.owes_trusted {
            return self.since;
        }
        self.since + SCHEDULE.get(self.round).copied().unwrap_or(PROOF_TIME)
    }

    pub(super) fn is_proof(&self, now: Instant, nonce: [u8; 8]) -> bool {
        self.pings
            .iter()
            .flatten()
            .any(|(sent, at)| *sent == nonce && now.duration_since(*at) < PROOF_TIME)
    }
}
