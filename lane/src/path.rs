//! To which address the datagrams of a peer go: proof of an address, moving, and moving back.
//!
//! The receiver of a lane sends back to the address that it trusts. A packet that opens, is the newest, is not a
//! probe and comes from another address makes that address a *candidate*: it is PINGed (and the trusted one too),
//! and when the PONG comes *from it*, the address moves. So a replayed packet or a spoofed source moves nothing.
//!
//! | rule | limit |
//! |---|---|
//! | proof: the PONG comes from the PINGed address within | 3 s |
//! | media goes to both, from the candidate's first packet, for | 500 ms |
//! | bytes to a candidate, for each byte that came from it | 3 |
//! | candidates at a time, and new ones in 10 s | 2, 5 |
//! | a newer packet from the address before moves straight back for | 10 s |

mod address;
mod candidate;

use std::time::Duration;

use wzp_wire::Instant;

use candidate::Candidate;

pub use address::{Address, may_probe};

/// The PONG of a proof must come within this time.
pub const PROOF_TIME: Duration = Duration::from_secs(3);

/// Media goes to a candidate, besides the trusted address, for at most this long.
pub const BOTH_TIME: Duration = Duration::from_millis(500);

/// How many bytes may go to an unproven address for each byte that came from it.
pub const AMPLIFICATION: u64 = 3;

/// Candidates at a time.
pub const MAX_CANDIDATES: usize = 2;

/// New candidates in [`CANDIDATE_WINDOW`].
pub const MAX_NEW_CANDIDATES: usize = 5;

/// See [`MAX_NEW_CANDIDATES`].
pub const CANDIDATE_WINDOW: Duration = Duration::from_secs(10);

/// How long the address before is still trusted without a new proof.
const RETURN_TIME: Duration = Duration::from_secs(10);

/// Whether a lane follows its peer to new addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roaming {
    /// The peer is a relay, which does not roam: its lane never follows a new source.
    Fixed,
    /// The peer is a client.
    Follow,
}

/// What an opened packet says about its sender's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// A PONG, or a PING flagged `probe`: never moves anything.
    Probe,
    /// Anything else.
    Settled,
}

/// A packet that opened.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Where it came from.
    pub from: Address,
    /// Whether it is the newest packet of its lane.
    pub newest: bool,
    /// What it holds.
    pub content: Content,
    /// Its length as a UDP payload.
    pub bytes: usize,
}

/// A PING to send now, flagged `probe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingTo {
    /// Where to.
    pub to: Address,
    /// Its nonce.
    pub nonce: [u8; 8],
}

/// The addresses of one peer.
#[derive(Debug)]
pub struct Tracker {
    roaming: Roaming,
    trusted: Option<Address>,
    before: Option<(Address, Instant)>,
    /// Empty but while an address is being proven: thousands of peers never move.
    candidates: Vec<Candidate>,
    started: [Option<Instant>; MAX_NEW_CANDIDATES],
    order: u64,
}

impl Tracker {
    /// Starts with an address that is proven already: that of the QUIC connection.
    pub fn new(roaming: Roaming, trusted: Address) -> Self {
        Self {
            trusted: Some(trusted),
            ..Self::unproven(roaming)
        }
    }

    /// Starts without any: a direct lane, which carries no media before one PONG.
    pub fn unproven(roaming: Roaming) -> Self {
        Self {
            roaming,
            trusted: None,
            before: None,
            candidates: Vec::new(),
            started: [None; MAX_NEW_CANDIDATES],
            order: 0,
        }
    }

    /// Takes in a packet that opened; `Some` when it moved the trusted address back.
    ///
    /// Packets from the trusted address need not be reported while [`Tracker::is_settled`].
    pub fn handle_packet(&mut self, now: Instant, packet: &Received) -> Option<Address> {
        self.expire(now);
        if let Some(candidate) = self.candidate(&packet.from) {
            candidate.received(packet.bytes);
        }
        if !packet.newest || packet.content == Content::Probe {
            return None;
        }
        if self.trusted == Some(packet.from) {
            self.candidates = Vec::new();
            return None;
        }
        if self.roaming == Roaming::Fixed {
            return None;
        }
        self.order += 1;
        let order = self.order;
        if self.before.is_some_and(|(before, _)| before == packet.from) {
            self.candidates = Vec::new();
            self.before = None;
            self.trusted = Some(packet.from);
            return self.trusted;
        }
        match self.candidate(&packet.from) {
            Some(candidate) => candidate.order = order,
            None => self.start(now, packet, order),
        }
        None
    }

    /// Takes in a PONG that opened; `Some` when it proved a candidate, which is trusted from now on.
    pub fn handle_pong(&mut self, now: Instant, from: Address, nonce: [u8; 8]) -> Option<Address> {
        self.expire(now);
        let candidate = self.candidate(&from)?;
        if !candidate.is_proof(now, nonce) {
            return None;
        }
        let proven = candidate.order;
        // Those that showed up before it are history; one that showed up after it may still win.
        self.keep(|other| other.order > proven);
        self.before = self.trusted.map(|before| (before, now));
        self.trusted = Some(from);
        self.trusted
    }

    /// The next PING to send, of `bytes` bytes as a UDP payload; `nonce` must be unpredictable and is used only if
    /// a PING is returned. Call until `None`, each time with a fresh nonce.
    pub fn poll_ping(&mut self, now: Instant, nonce: [u8; 8], bytes: usize) -> Option<PingTo> {
        self.expire(now);
        let trusted = self.trusted;
        for candidate in &mut self.candidates {
            if let Some(to) = candidate.poll_ping(now, trusted, nonce, bytes) {
                return Some(PingTo { to, nonce });
            }
        }
        None
    }

    /// When [`Tracker::poll_ping`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.candidates.iter().map(Candidate::timeout).min()
    }

    /// Where a media packet of `bytes` bytes goes besides the trusted address, if anywhere; counts it as sent.
    pub fn poll_copy(&mut self, now: Instant, bytes: usize) -> Option<Address> {
        self.expire(now);
        self.trusted?;
        let newest = self
            .candidates
            .iter_mut()
            .max_by_key(|candidate| candidate.order)?;
        let in_time = now.duration_since(newest.since) < BOTH_TIME;
        (in_time && newest.charge(bytes)).then_some(newest.address)
    }

    /// Whether a packet of `bytes` bytes (a PONG) may go to this address now; counts it as sent.
    pub fn charge(&mut self, to: &Address, bytes: usize) -> bool {
        self.candidate(to).is_none_or(|candidate| candidate.charge(bytes))
    }

    /// Trusts an address that its owner has proven otherwise (the winner of a race), or chose (a new relay).
    pub fn set(&mut self, trusted: Address) {
        *self = Self {
            started: self.started,
            ..Self::new(self.roaming, trusted)
        };
    }

    /// Where the peer's datagrams go; `None` before the first proof.
    pub fn trusted(&self) -> Option<Address> {
        self.trusted
    }

    /// Whether no candidate is being looked at.
    pub fn is_settled(&self) -> bool {
        self.candidates.is_empty()
    }

    fn candidate(&mut self, address: &Address) -> Option<&mut Candidate> {
        self.candidates
            .iter_mut()
            .find(|candidate| candidate.address == *address)
    }

    fn start(&mut self, now: Instant, packet: &Received, order: u64) {
        if self.candidates.len() >= MAX_CANDIDATES {
            return;
        }
        let Some(started) = self
            .started
            .iter_mut()
            .find(|started| started.is_none_or(|at| now.duration_since(at) >= CANDIDATE_WINDOW))
        else {
            return;
        };
        *started = Some(now);
        self.candidates
            .push(Candidate::new(now, packet.from, packet.bytes, order));
    }

    fn keep(&mut self, wanted: impl Fn(&Candidate) -> bool) {
        self.candidates.retain(wanted);
        if self.candidates.is_empty() {
            self.candidates = Vec::new();
        }
    }

    fn expire(&mut self, now: Instant) {
        self.keep(|candidate| now.duration_since(candidate.since) < PROOF_TIME);
        self.before
            .take_if(|(_, moved)| now.duration_since(*moved) >= RETURN_TIME);
    }
}

#[cfg(test)]
mod tests;
