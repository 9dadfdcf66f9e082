//! Bytes on the wire: media headers, trunks, datagram kinds, signal framing.
//!
//! The normative text is `docs/wire.md`; the golden vectors are in `wire/vectors/`. Everything here borrows what it
//! reads, returns an error for whatever it does not understand, and allocates nothing on the media path.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(clippy::cast_possible_truncation)]

pub mod datagram;
mod ids;
pub mod media;
mod relay;
mod report;
mod room;
pub mod signal;
mod time;

pub use datagram::{Datagram, DatagramError, Ping, Pong, Trunk, TrunkWriter};
pub use ids::SenderId;
pub use media::{
    Codec, Compressor, Decompressor, FecFields, Header, HeaderError, Kind, Level, Stream, clear_level,
};
pub use relay::{Epoch, RelayId, RelayIdError};
pub use report::{REPORT_LEN, ReceiverReport, ReportError};
pub use room::{RoomName, RoomNameError};
pub use time::Instant;
