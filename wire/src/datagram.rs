//! What a lane packet or a QUIC datagram contains: a kind byte and its body.
//!
//! ```text
//! 1 MEDIA  kind u8 ‖ sender u16 ‖ media packet
//! 2 TRUNK  kind u8 ‖ count u8 ‖ count × (sender or handle u16 ‖ length u16 ‖ media packet)
//! 3 PING   kind u8 ‖ nonce 8 ‖ flags u8 ‖ sent_us u32 ‖ zeros up to 48 bytes or more
//! 4 PONG   kind u8 ‖ nonce 8 ‖ flags u8 ‖ sent_us u32 ‖ hold_us u32 ‖ confirmed u64 ‖ ip 16 ‖ port u16
//! ```
//!
//! Big endian throughout. Unknown kinds and malformed bodies are dropped and counted by the receiver.

mod ping;
mod trunk;

pub use ping::{MAX_UNPROVEN, PING_LEN, PONG_LEN, Ping, Pong};
pub use trunk::{Trunk, TrunkIter, TrunkWriter};

use crate::SenderId;

pub(crate) const KIND_MEDIA: u8 = 1;
pub(crate) const KIND_TRUNK: u8 = 2;
pub(crate) const KIND_PING: u8 = 3;
pub(crate) const KIND_PONG: u8 = 4;

/// One datagram, borrowed from the buffer it was received in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A media packet of one sender.
    Media {
        /// Whose it is.
        sender: SenderId,
        /// Header, ciphertext and tag; not looked into, never empty.
        packet: &'a [u8],
    },
    /// Media packets of several senders.
    Trunk(Trunk<'a>),
    /// A question for an answer over the same path.
    Ping(Ping),
    /// The answer.
    Pong(Pong),
}

/// A datagram that cannot be read. The peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Fewer bytes than its kind has, or than it says.
    #[error("datagram is cut off")]
    Truncated,
    /// A kind of which this version knows nothing.
    #[error("datagram kind {0} is unknown")]
    Kind(u8),
    /// A field has a value that means nothing.
    #[error("datagram has a reserved value")]
    Reserved,
    /// Bytes behind the end.
    #[error("datagram has bytes behind its end")]
    Trailing,
}

/// The caller's buffer cannot take the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("buffer is too small for the datagram")]
pub struct BufferTooSmall;

impl<'a> Datagram<'a> {
    /// Bytes in front of the packet of a MEDIA datagram.
    pub const MEDIA_HEADER: usize = 3;

    /// Reads one datagram, all of it.
    ///
    /// # Errors
    /// Everything in [`DatagramError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DatagramError> {
        let (&kind, body) = bytes.split_first().ok_or(DatagramError::Truncated)?;
        match kind {
            KIND_MEDIA => {
                let (&sender, packet) = body.split_first_chunk().ok_or(DatagramError::Truncated)?;
                if packet.is_empty() {
                    return Err(DatagramError::Truncated);
                }
                let sender = SenderId::new(u16::from_be_bytes(sender)).ok_or(DatagramError::Reserved)?;
                Ok(Self::Media { sender, packet })
            }
            KIND_TRUNK => Trunk::decode(body).map(Self::Trunk),
            KIND_PING => Ping::decode(body).map(Self::Ping),
            KIND_PONG => Pong::decode(body).map(Self::Pong),
            other => Err(DatagramError::Kind(other)),
        }
    }

    /// Writes it to the front of `out` and returns its length; a PING is padded to [`PING_LEN`].
    ///
    /// # Errors
    /// [`BufferTooSmall`]; `out` may have been written to.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, BufferTooSmall> {
        match self {
            Self::Media { sender, packet } => {
                Self::media_header(*sender, out)?;
                let room = out
                    .get_mut(Self::MEDIA_HEADER..)
                    .and_then(|rest| rest.get_mut(..packet.len()));
                room.ok_or(BufferTooSmall)?.copy_from_slice(packet);
                Ok(Self::MEDIA_HEADER + packet.len())
            }
            Self::Trunk(trunk) => trunk.encode(out),
            Self::Ping(ping) => ping.encode_padded(out, PING_LEN),
            Self::Pong(pong) => pong.encode(out),
        }
    }

    /// Writes only the front of a MEDIA datagram, for a packet that is already in its place behind it.
    ///
    /// # Errors
    /// [`BufferTooSmall`].
    pub fn media_header(sender: SenderId, out: &mut [u8]) -> Result<(), BufferTooSmall> {
        let front = out.first_chunk_mut::<3>().ok_or(BufferTooSmall)?;
        let [high, low] = sender.get().to_be_bytes();
        *front = [KIND_MEDIA, high, low];
        Ok(())
    }
}
