//! One UDP socket for QUIC and lanes: batches, TTL, SO_REUSEPORT.
//!
//! - [`relay`]: threads outside tokio, one socket each on a shared port, around a [`relay::Handler`];
//! - [`client`]: one socket on tokio, with lane packets taken out before quinn sees them;
//! - [`quic`]: how quinn must be configured to share a socket with lanes;
//! - [`recv`], [`send`]: batches of datagrams, which also serve without lanes.
//!
//! Linux only: batches, control messages and port sharing are its own.

pub mod address;
pub mod client;
pub mod clock;
mod cmsg;
pub mod counters;
mod ids;
pub mod outgoing;
mod prefetch;
pub mod quic;
pub mod recv;
pub mod relay;
pub mod send;
pub mod udp;

pub use address::Address;
pub use counters::{Counters, Totals};
pub use outgoing::Outgoing;
pub use prefetch::prefetch;
