//! Media lanes: QUIC-shaped packets, keys, replay window and address validation, without IO.
//!
//! A lane is a keyed, one-way stream of datagrams that shares a UDP socket and an address pair with a QUIC
//! connection. Every packet of it is a QUIC v1 short-header packet, protected as RFC 9001 sections 5.3 and 5.4
//! say:
//!
//! ```text
//! |0|1|S|0 0|K|P P| | lane id (n bytes)| | counter     | | AEAD(datagram) .. 16 B tag   |
//! ```
//!
//! - [`Sealer`] and [`Opener`] are the two ends of one lane; both work from any thread through `&self`.
//! - [`demux`] tells lane packets from QUIC packets, by ids that an [`ids::Layout`] makes.
//! - [`path`] decides to which address a peer's datagrams go.
//! - [`alive`] decides when to PING, and when a lane is silent.

#![forbid(unsafe_code)]

mod aead;
mod counter;
mod direct;
mod generations;
mod id;
mod line;
mod numbers;
mod opener;
mod protect;
mod sealer;
mod secret;
mod window;

pub mod alive;
pub mod demux;
pub mod ids;
pub mod path;

pub use aead::Aead;
pub use direct::{DirectKeys, DirectSender};
pub use id::LaneId;
pub use numbers::LaneNumbers;
pub use opener::{OpenError, Opened, Opener};
pub use sealer::{SealError, Sealer};
pub use secret::{Direction, EXPORTER_LABEL, Secret, exporter_context};

/// Length of the authentication tag at the end of every lane packet.
pub const TAG_LEN: usize = 16;

/// A datagram inside a lane packet is at least this long, so that a packet always holds a sample.
pub const MIN_DATAGRAM: usize = 2;

/// Length of the shortest lane packet to a receiver whose lane ids are `id_len` bytes long.
pub const fn min_packet(id_len: usize) -> usize {
    1 + id_len + 4 + TAG_LEN
}
