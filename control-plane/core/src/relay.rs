//! What a relay says of itself and of others.

use std::{fmt, net::SocketAddr, time::Duration};

use wzp_wire::RelayId;

/// Drawn by a relay at every start: another one under the same name is another process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 8]);

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One stream of one relay to this replica, numbered by the shell and never again used for another.
///
/// What comes out of a stream that was replaced meanwhile is known by it, and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// How an address became known; the first ones are worth more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressSource {
    /// Given on the command line.
    Explicit,
    /// Of the Kubernetes Service in front of it.
    Service,
    /// Of the node it runs on.
    Node,
    /// Seen by other relays.
    Observed,
    /// Where the socket is bound.
    Bound,
}

/// Where clients reach a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// IPv4 never written as IPv6.
    pub socket: SocketAddr,
    /// How it became known.
    pub source: AddressSource,
}

/// Where a relay runs; what is not known is empty, and equal to nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Such as `eu-west`.
    pub region: Box<str>,
    /// Within the region.
    pub zone: Box<str>,
    /// The machine.
    pub node: Box<str>,
}

impl Place {
    /// Whether one machine going down takes both.
    pub fn shares_node(&self, other: &Self) -> bool {
        !self.node.is_empty() && self.node == other.node
    }

    /// Whether one zone going down takes both.
    pub fn shares_zone(&self, other: &Self) -> bool {
        !self.zone.is_empty() && self.zone == other.zone && self.region == other.region
    }
}

/// What a relay can carry; 0: not known, and not limiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Out of it.
    pub egress_bits_per_second: u64,
    /// Out of it.
    pub packets_per_second: u64,
    /// Of its machine.
    pub cores: u32,
    /// Of clients.
    pub connections: u64,
}

/// How a relay introduces itself, at the start of every stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// As in its certificate; the shell has compared them.
    pub relay: RelayId,
    /// Of this process.
    pub boot: BootId,
    /// Where it runs.
    pub place: Place,
    /// Where clients reach it, at most 16.
    pub addresses: Vec<Address>,
    /// For people, such as `0.1.0`.
    pub version: Box<str>,
    /// The protocol versions it speaks.
    pub protocol: std::ops::RangeInclusive<u32>,
    /// What it can carry.
    pub capacity: Capacity,
    /// SHA-256 of each certificate that clients may see now, at most 4.
    pub certificates: Vec<[u8; 32]>,
    /// It was draining before this stream began.
    pub draining: bool,
    /// The relay's clock.
    pub unix_ms: u64,
    /// Where Prometheus finds its metrics; empty: nowhere.
    pub metrics_address: Box<str>,
}

/// What a relay has to do right now, its rates exponentially weighted over 5 s by the relay itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Out of it.
    pub egress_bits_per_second: u64,
    /// Out of it.
    pub packets_per_second: u64,
    /// Of all its cores, 0 to 1,000.
    pub cpu_permille: u32,
    /// Of clients.
    pub connections: u64,
    /// That have a member.
    pub rooms: u32,
    /// Connected directly, those for whom it is a standby as well.
    pub members: u32,
    /// It moves its members away.
    pub draining: bool,
    /// The relay's clock.
    pub unix_ms: u64,
    /// The relay's own sum: the largest of the ratios, 0 to 1,000 and beyond.
    pub load_permille: u32,
}

/// What one relay measured to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// To whom.
    pub relay: RelayId,
    /// Nothing came back in the last three rounds; the figures are those of before.
    pub unreachable: bool,
    /// There and back.
    pub rtt: Duration,
    /// Of the RTT.
    pub jitter: Duration,
    /// Of the probes, 0 to 1,000.
    pub loss_permille: u16,
    /// Since it was measured.
    pub age: Duration,
}

/// Whether a QUIC handshake to an advertised address was completed and showed the right certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressReport {
    /// Whose address.
    pub relay: RelayId,
    /// As it was in the order to check it.
    pub address: SocketAddr,
    /// `Err` says why not, for people.
    pub outcome: Result<(), String>,
}
