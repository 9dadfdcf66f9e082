//! Signalling: messages on one bidirectional stream, each framed as
//!
//! ```text
//! length u32 BE ‖ protobuf SignalMessage (at most 65,536 bytes)
//! ```
//!
//! A message of a kind that this version does not know is skipped and counted, so that versions may differ by one.
//! Anything else that cannot be read ends the stream.

mod checked;

use prost::Message;

pub use checked::{
    Announcement, Blob, Hello, Invalid, Join, Joined, LaneAccept, LaneIdBytes, LaneOffer, MAX_GRANT,
    MAX_SEATS, Member, Move, Payload, PeerMessage, RelaySeat, TrunkJoin, TrunkJoined, TrunkMember,
    TrunkPeerMessage, VERSION, Welcome,
};
pub use wzp_proto::signal as proto;
pub use wzp_proto::signal::{Reason, Role, SignalMessage, signal_message::Kind};

/// The longest message, without its length.
pub const MAX_MESSAGE: usize = 65_536;
/// Bytes of the length in front of each message.
pub const LENGTH_BYTES: usize = 4;
/// What a decoder holds at most: a message that is not complete, and whatever was pushed behind it.
const MAX_BUFFERED: usize = 4 * (MAX_MESSAGE + LENGTH_BYTES);

/// A stream that cannot be read on, or a message that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("signal message of {0} bytes is too long")]
    TooLong(usize),
    /// Not a `SignalMessage`.
    #[error("signal message is malformed")]
    Malformed(#[from] prost::DecodeError),
    /// Much was pushed and nothing taken out. The caller is at fault.
    #[error("signal decoder was not emptied")]
    Overrun,
}

/// Takes messages out of a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer's front was read already.
    read: usize,
    skipped: u64,
    failed: Option<SignalError>,
}

impl Decoder {
    /// At the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the stream; call [`next`](Self::next) until it has no more before pushing again.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.drain(..self.read);
        self.read = 0;
        if self.buffer.len() + bytes.len() > MAX_BUFFERED {
            self.fail(SignalError::Overrun);
            return;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// See [`SignalError`]; the stream is over then and every further call says the same.
    #[expect(
        clippy::should_implement_trait,
        reason = "None is not the end: more may be pushed"
    )]
    pub fn next(&mut self) -> Result<Option<SignalMessage>, SignalError> {
        loop {
            match self.take() {
                Ok(Some(SignalMessage { kind: None })) => self.skipped += 1,
                Ok(message) => return Ok(message),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Messages skipped so far because their kind is unknown; they count for a message rate like any other.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn take(&mut self) -> Result<Option<SignalMessage>, SignalError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.read == self.buffer.len() {
            // Thousands of streams are silent most of the time, and one long message must not cost memory for ever.
            self.buffer = Vec::new();
            self.read = 0;
        }
        let unread = self.buffer.get(self.read..).unwrap_or_default();
        let Some((&length, rest)) = unread.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_MESSAGE {
            return Err(SignalError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = SignalMessage::decode(body)?;
        self.read += LENGTH_BYTES + length;
        Ok(Some(message))
    }

    fn fail(&mut self, error: SignalError) -> SignalError {
        self.buffer = Vec::new();
        self.read = 0;
        self.failed.get_or_insert(error).clone()
    }
}

/// Appends the framed message to `out`.
///
/// # Errors
/// [`SignalError::TooLong`]; nothing was appended then.
pub fn encode(message: &SignalMessage, out: &mut Vec<u8>) -> Result<(), SignalError> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_MESSAGE);
    let prefix = prefix.ok_or(SignalError::TooLong(length))?;
    out.reserve(LENGTH_BYTES + length);
    out.extend_from_slice(&prefix.to_be_bytes());
    message.encode_raw(out);
    Ok(())
}

/// The message of this kind.
pub fn message(kind: Kind) -> SignalMessage {
    SignalMessage { kind: Some(kind) }
}
