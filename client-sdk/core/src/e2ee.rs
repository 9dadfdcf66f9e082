//! End-to-end encryption of a room: who is in it, whose key is whose, and the seal around every packet.
//!
//! [`Group`] is one member's view of one room. The relay carries three things for it, all opaque to the relay:
//! announcements (with Join), pairwise messages (PeerMessage) and sealed media. `docs/crypto.md` is normative.

mod announce;
mod epoch;
mod event;
mod group;
mod held;
mod opener;
mod replay;
mod sealer;
#[cfg(test)]
mod tests;
mod wrap;

pub use event::{Event, Misbehaviour, OpenError, Opened, SealError};
pub use group::Group;
pub use sealer::OVERHEAD;

/// Members besides oneself that a room may have.
pub const MAX_MEMBERS: usize = 1_000;
/// The longest announcement that is looked at.
pub const MAX_ANNOUNCEMENT_BYTES: usize = 256;
/// The longest message between members that is looked at.
pub const MAX_MESSAGE_BYTES: usize = 4_096;
/// Rooms up to this size, oneself included, hand out keys at once; larger ones on first speech.
pub const EAGER_ROOM: usize = 50;
