//! The receiving end of a lane.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::counter::{self, LIMIT};
use crate::generations::Generations;
use crate::line::Line;
use crate::protect::{HeaderKey, apply_mask};
use crate::window::{Refusal, Window};
use crate::{Aead, LaneId, MIN_DATAGRAM, Secret, TAG_LEN, min_packet};

const COUNTER_LEN_BITS: u8 = 0x03;
const KEY_PHASE_BIT: u8 = 0x04;
const RESERVED_BITS: u8 = 0x18;
const MAX_COUNTER_LEN: usize = 4;
const MAX_HEADER: usize = 1 + LaneId::MAX_LEN + MAX_COUNTER_LEN;

/// Failed openings after which a lane is closed: RFC 9001 section 6.6 for ChaCha20-Poly1305; AES-GCM allows more.
const FAILURE_LIMIT: u64 = 1 << 36;

/// The receiving half of a lane: opens packets in place, from any thread, each once.
///
/// In the order in which a packet needs it: a lane among thousands lies in main memory.
#[repr(C)]
pub struct Opener {
    header: HeaderKey,
    id_len: usize,
    failures: AtomicU64,
    keys: Generations,
    window: Line<Window>,
}

/// A packet that opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its counter.
    pub counter: u64,
    /// Whether it is the newest packet of the lane so far.
    pub newest: bool,
    /// Where its datagram lies in the packet.
    pub range: Range<usize>,
}

/// Why a packet did not open.
///
/// Whichever it is, the first byte's fixed bit and the last 16 bytes are as they were received: a stateless
/// reset may look like any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Too short for a lane packet with a datagram inside.
    #[error("packet is too short")]
    Short,
    /// The key phase is not that of the counter's generation, or the generation has no live key.
    #[error("packet is of no live key generation")]
    KeyPhase,
    /// The packet was opened before.
    #[error("packet was opened before")]
    Replay,
    /// The counter lies before the replay window.
    #[error("packet is too old")]
    TooOld,
    /// Not sealed by the peer, or changed on the way.
    #[error("packet failed authentication")]
    Failed,
    /// The peer set bits that must be zero.
    #[error("reserved bits are set")]
    Reserved,
    /// Too many packets failed: this lane opens nothing any more.
    #[error("lane is closed after too many failures")]
    Closed,
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Replay => Self::Replay,
            Refusal::TooOld => Self::TooOld,
        }
    }
}

impl Opener {
    /// The receiving half of a lane with this `secret_0`, whose id is `id_len` bytes long (at most 20).
    pub fn new(secret: Secret, aead: Aead, id_len: usize) -> Self {
        Self {
            header: HeaderKey::new(aead, &secret),
            id_len: id_len.min(LaneId::MAX_LEN),
            keys: Generations::new(aead, secret),
            window: Line(Window::new()),
            failures: AtomicU64::new(0),
        }
    }

    /// Opens a packet in place.
    ///
    /// # Errors
    /// Any [`OpenError`]; the bytes between header and tag are blanked after [`OpenError::Failed`].
    pub fn open(&self, packet: &mut [u8]) -> Result<Opened, OpenError> {
        let header = self.reveal(packet)?;
        let counter = counter::recover(self.window.expected(), header.truncated, header.counter_len);
        let phase = header.first() & KEY_PHASE_BIT != 0;
        if phase != (counter::generation(counter) & 1 == 1) {
            return Err(OpenError::KeyPhase);
        }
        self.window.look_up(counter)?;
        self.decrypt(packet, &header, counter)?;
        if header.first() & RESERVED_BITS != 0 {
            return Err(OpenError::Reserved);
        }
        let newest = self.window.mark(counter)?;
        self.keys.advance(counter);
        Ok(Opened {
            counter,
            newest,
            range: header.len()..packet.len() - TAG_LEN,
        })
    }

    /// The counter after the highest that opened; 0 before the first packet.
    pub fn expected_counter(&self) -> u64 {
        self.window.expected()
    }

    /// Packets that failed authentication.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Takes header protection off a copy: the packet stays whole for whoever looks at it after a failure.
    fn reveal(&self, packet: &[u8]) -> Result<Header, OpenError> {
        if packet.len() < min_packet(self.id_len) {
            return Err(OpenError::Short);
        }
        let counter_at = 1 + self.id_len;
        let mask = self.header.mask(packet, counter_at).ok_or(OpenError::Short)?;
        let mut bytes = [0; MAX_HEADER];
        let whole = packet
            .get(..counter_at + MAX_COUNTER_LEN)
            .ok_or(OpenError::Short)?;
        bytes
            .get_mut(..whole.len())
            .ok_or(OpenError::Short)?
            .copy_from_slice(whole);

        let (first, rest) = bytes.split_first_mut().ok_or(OpenError::Short)?;
        let field = rest
            .get_mut(self.id_len..self.id_len + MAX_COUNTER_LEN)
            .ok_or(OpenError::Short)?;
        let [mask_first, ..] = mask;
        let counter_len = usize::from((*first ^ mask_first) & COUNTER_LEN_BITS) + 1;
        let (field, _) = field.split_at_mut(counter_len);
        apply_mask(mask, first, field);
        let truncated = field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let header = Header {
            bytes,
            counter_at,
            counter_len,
            truncated,
        };
        if packet.len() < header.len() + MIN_DATAGRAM + TAG_LEN {
            return Err(OpenError::Short);
        }
        Ok(header)
    }

    fn decrypt(&self, packet: &mut [u8], header: &Header, counter: u64) -> Result<(), OpenError> {
        if counter >= LIMIT {
            return Err(OpenError::TooOld);
        }
        if self.failures() >= FAILURE_LIMIT {
            return Err(OpenError::Closed);
        }
        let (_, sealed) = packet.split_at_mut(header.len());
        match self
            .keys
            .with_key(counter, |key| key.open(counter, header.as_slice(), sealed))
        {
            Some(true) => Ok(()),
            Some(false) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(OpenError::Failed)
            }
            None => Err(OpenError::KeyPhase),
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener")
            .field("expected", &self.expected_counter())
            .finish_non_exhaustive()
    }
}

/// A header without its protection.
struct Header {
    bytes: [u8; MAX_HEADER],
    counter_at: usize,
    counter_len: usize,
    truncated: u32,
}

impl Header {
    fn first(&self) -> u8 {
        let [first, ..] = self.bytes;
        first
    }

    fn len(&self) -> usize {
        self.counter_at + self.counter_len
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "opener/tests.rs"]
mod tests;
