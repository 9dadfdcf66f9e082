//! What a [`Group`](super::Group) tells its user.

use wzp_identity::PublicIdentity;
use wzp_wire::{Header, HeaderError, SenderId};

/// Something that happened in the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody announced itself with a valid signature. It may be given keys from now on, so it is to be shown;
    /// that it is alive and not a recording is known at [`Event::MemberVerified`].
    MemberAnnounced {
        /// The member.
        sender: SenderId,
        /// Whom the signature is by.
        public: PublicIdentity,
    },
    /// Both sides proved to each other that they hold the keys they announced.
    MemberVerified {
        /// The member.
        sender: SenderId,
        /// Who it is.
        public: PublicIdentity,
    },
    /// The relay says that the member left; it gets no key from now on.
    MemberLeft {
        /// The member.
        sender: SenderId,
    },
    /// Our own packets are sealed under another key from now on.
    EpochChanged {
        /// The epoch byte of the header.
        epoch: u8,
    },
    /// Packets of this member could not be opened; its key was asked for again. At most once a second a member.
    KeyMismatch {
        /// Whom we cannot hear.
        sender: SenderId,
        /// Packets since it was announced.
        count: u32,
    },
    /// This member says that it cannot open our packets; it got the key again.
    Unheard {
        /// Who cannot hear us.
        sender: SenderId,
        /// Packets, by its own count.
        count: u32,
    },
    /// Something was refused.
    Refused {
        /// In whose name it came: the relay or this member is at fault.
        sender: SenderId,
        /// What was wrong.
        why: Misbehaviour,
    },
}

/// Why an announcement, a message or a member was refused. Every variant is a metric label of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Misbehaviour {
    /// Wrong length or impossible content.
    #[error("malformed")]
    Malformed,
    /// Made for another version of the protocol.
    #[error("of another protocol version")]
    Version,
    /// An announcement for another room.
    #[error("announced for another room")]
    WrongRoom,
    /// An announcement whose keys were exchanged or whose signature was forged.
    #[error("the announcement is not signed by the identity in it")]
    BadSignature,
    /// A key of small order.
    #[error("an unusable key")]
    WeakKey,
    /// Our own announcement came back as somebody else, or somebody else came under our id.
    #[error("our own announcement or id was given to another member")]
    Reflected,
    /// An announcement, or a message made for one, that was already used up.
    #[error("an old handshake was replayed")]
    ReplayedHandshake,
    /// More members than a room may have.
    #[error("too many members")]
    TooManyMembers,
    /// More joins than one stay in a room may see; join again.
    #[error("too many joins")]
    TooManyJoins,
    /// A message in the name of nobody we know.
    #[error("a message from an unknown sender")]
    UnknownSender,
    /// A message of one member delivered in the name of another.
    #[error("a message under another member's id")]
    SwappedSender,
    /// A message for somebody else, or for another room of ours.
    #[error("a message meant for somebody else")]
    Misdirected,
    /// A message that was delivered before, or after a later one.
    #[error("a message was replayed")]
    ReplayedMessage,
    /// A message that was changed on its way.
    #[error("a message was tampered with")]
    Tampered,
    /// A key that contradicts the one given before.
    #[error("a sender key was swapped")]
    KeySwapped,
    /// A member never proved that it holds the key it announced.
    #[error("never confirmed its key")]
    NeverConfirmed,
}

/// Why a packet was not sealed. The caller is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The output needs [`OVERHEAD`](super::OVERHEAD) bytes more than the payload.
    #[error("the output buffer is too small")]
    BufferTooSmall,
    /// 2^48 packets were sealed: join again.
    #[error("the packet counter is used up")]
    Exhausted,
    /// A field of the header is out of its range.
    #[error("the header cannot be written")]
    Header,
}

/// A packet that was opened, in the buffer it came in.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The header, authenticated.
    pub header: Header,
    /// The packet's number in its stream, 48 bits.
    pub counter: u64,
    /// What was sealed.
    pub payload: &'a [u8],
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody of this id is known (yet): kept for a second, see [`Group::poll_held`](super::Group::poll_held).
    #[error("unknown sender")]
    UnknownSender,
    /// Overtook its key: kept for a second, see [`Group::poll_held`](super::Group::poll_held).
    #[error("the key for this packet is not here yet")]
    NoKeyYet,
    /// Opened before.
    #[error("duplicate")]
    Duplicate,
    /// More than 1,024 packets behind the newest.
    #[error("too old for the replay window")]
    TooOld,
    /// Sealed under a key from before we joined, or whose time is over.
    #[error("sealed under an old key")]
    OldEpoch,
    /// A mini header without its full one.
    #[error("the context of the mini header is unknown")]
    UnknownContext,
    /// No media packet of ours.
    #[error(transparent)]
    Header(HeaderError),
    /// Forged, damaged, or sealed under another key: counted as a key mismatch.
    #[error("the packet does not authenticate")]
    Failed,
}
