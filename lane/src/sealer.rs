//! The sending end of a lane.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use wzp_wire::Instant;

use crate::counter::{self, LIMIT, MEDIA_UNCONFIRMED, PING_EVERY, UNCONFIRMED};
use crate::generations::Generations;
use crate::line::Line;
use crate::protect::{HeaderKey, apply_mask};
use crate::{Aead, LaneId, MIN_DATAGRAM, Secret, TAG_LEN};

/// Senders always write two counter bytes.
const COUNTER_LEN: usize = 2;

const FIXED_BIT: u8 = 0x40;
const SPIN_BIT: u8 = 0x20;
const KEY_PHASE_BIT: u8 = 0x04;
const NEVER: u64 = u64::MAX;

/// Longest pause between PINGs while media flows.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Pause between PINGs while too much is unconfirmed.
const PAUSED_PING_INTERVAL: Duration = Duration::from_secs(1);

/// The sending half of a lane: seals datagrams into packets, from any thread.
///
/// Receivers recover the counter from two bytes, which works only within 2^15 of the last packet they opened.
/// So every 2^10 packets (and 5 s of media) a PING is due, its PONG confirms its counter, and 2^14 packets after
/// the newest confirmed one [`Sealer::seal`] refuses: a lane into a dead path stops by itself. PONGs go on, one for
/// each PING, or two ends that both stopped could never confirm anything to each other again.
///
/// In the order in which a packet needs it: a lane among thousands lies in main memory.
#[repr(C)]
pub struct Sealer {
    progress: Line<Progress>,
    id: LaneId,
    keys: Generations,
    header: HeaderKey,
}

/// What packets and PINGs write.
struct Progress {
    /// The counter of the next packet.
    next: AtomicU64,
    /// One more than the newest confirmed counter.
    confirmed: AtomicU64,
    /// One more than the newest PING's counter.
    pinged: AtomicU64,
    /// When the newest PING was sealed, in microseconds; [`NEVER`] before the first.
    pinged_at: AtomicU64,
    /// One more than the counter of the newest PING that was answered; it counts the packets of the other direction.
    answered: AtomicU64,
}

/// Why a datagram was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// The caller's datagram is shorter than [`MIN_DATAGRAM`].
    #[error("datagram is shorter than {MIN_DATAGRAM} bytes")]
    TooShort,
    /// The caller's buffer has no room for header, datagram and tag.
    #[error("buffer is too small for the packet")]
    BufferTooSmall,
    /// The peer has confirmed nothing for too long: only PINGs now, one a second, and a PONG for each of
    /// the peer's.
    #[error("too many packets are unconfirmed")]
    Unconfirmed,
    /// The lane is at its end; open another under a new number.
    #[error("lane is used up")]
    Exhausted,
    /// The key of this counter is being made or already wiped, because a thread stood still for thousands of
    /// packets. The number is a hole, nothing more.
    #[error("no key for this counter")]
    NoKey,
}

impl Sealer {
    /// The sending half of a lane with this `secret_0`, to a receiver that named it `id`.
    ///
    /// A secret makes one sealer, ever: a second one would repeat its nonces.
    pub fn new(secret: Secret, aead: Aead, id: LaneId) -> Self {
        Self {
            header: HeaderKey::new(aead, &secret),
            id,
            keys: Generations::new(aead, secret),
            progress: Line(Progress {
                next: AtomicU64::new(0),
                confirmed: AtomicU64::new(0),
                pinged: AtomicU64::new(0),
                pinged_at: AtomicU64::new(NEVER),
                answered: AtomicU64::new(0),
            }),
        }
    }

    /// Free room that a datagram needs in front of it.
    pub fn header_len(&self) -> usize {
        1 + self.id.len() + COUNTER_LEN
    }

    /// Bytes that a packet is longer than its datagram.
    pub fn overhead(&self) -> usize {
        self.header_len() + TAG_LEN
    }

    /// The id that the receiver gave to this lane.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// Seals the `len` bytes behind [`Sealer::header_len`] in place and returns the packet's length.
    ///
    /// 16 bytes behind them must be free. `spin` is a random bit, drawn for each packet.
    ///
    /// # Errors
    /// Any [`SealError`]; nothing is to be sent then.
    pub fn seal(&self, buf: &mut [u8], len: usize, spin: bool) -> Result<usize, SealError> {
        self.fits(buf, len)?;
        if self.unconfirmed() >= MEDIA_UNCONFIRMED {
            return Err(SealError::Unconfirmed);
        }
        self.seal_next(buf, len, spin).map(|(len, _)| len)
    }

    /// Seals a PING and returns the packet's length and its counter, which its PONG confirms.
    ///
    /// # Errors
    /// As [`Sealer::seal`], but [`SealError::Unconfirmed`] only for a second PING within a second of a pause.
    pub fn seal_ping(
        &self,
        now: Instant,
        buf: &mut [u8],
        len: usize,
        spin: bool,
    ) -> Result<(usize, u64), SealError> {
        self.fits(buf, len)?;
        let last = self.progress.pinged_at.load(Ordering::Relaxed);
        let unconfirmed = self.unconfirmed();
        if unconfirmed >= UNCONFIRMED {
            return Err(SealError::Exhausted);
        }
        if unconfirmed >= MEDIA_UNCONFIRMED && !elapsed(now, last, PAUSED_PING_INTERVAL) {
            return Err(SealError::Unconfirmed);
        }
        let claim = self.progress.pinged_at.compare_exchange(
            last,
            now.as_micros(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if claim.is_err() && unconfirmed >= MEDIA_UNCONFIRMED {
            return Err(SealError::Unconfirmed);
        }
        let (len, counter) = self.seal_next(buf, len, spin)?;
        self.progress.pinged.fetch_max(counter + 1, Ordering::Relaxed);
        Ok((len, counter))
    }

    /// Seals the PONG to the peer's PING that opened under the counter `ping`, also while media is refused, and returns
    /// the packet's length.
    ///
    /// # Errors
    /// As [`Sealer::seal`], but [`SealError::Unconfirmed`] only when, in a pause, this PING or a later one was answered
    /// already: a paused lane never sends more PONGs than it got PINGs.
    pub fn seal_pong(&self, ping: u64, buf: &mut [u8], len: usize, spin: bool) -> Result<usize, SealError> {
        self.fits(buf, len)?;
        let unconfirmed = self.unconfirmed();
        if unconfirmed >= UNCONFIRMED {
            return Err(SealError::Exhausted);
        }
        let answered = self
            .progress
            .answered
            .fetch_max(ping.saturating_add(1), Ordering::Relaxed);
        if unconfirmed >= MEDIA_UNCONFIRMED && answered > ping {
            return Err(SealError::Unconfirmed);
        }
        self.seal_next(buf, len, spin).map(|(len, _)| len)
    }

    /// The PONG to the PING with this counter has come. A counter that was never sent is ignored.
    pub fn confirm(&self, counter: u64) {
        if counter < self.next_counter() {
            self.progress.confirmed.fetch_max(counter + 1, Ordering::Relaxed);
        }
    }

    /// The counter of the next packet.
    pub fn next_counter(&self) -> u64 {
        self.progress.next.load(Ordering::Relaxed)
    }

    /// Whether media is refused until a PING is confirmed.
    pub fn is_paused(&self) -> bool {
        self.unconfirmed() >= MEDIA_UNCONFIRMED
    }

    /// Whether a PING is due for the sake of the counters.
    pub fn ping_due(&self, now: Instant) -> bool {
        let last = self.progress.pinged_at.load(Ordering::Relaxed);
        let since = self
            .next_counter()
            .saturating_sub(self.progress.pinged.load(Ordering::Relaxed));
        if self.is_paused() {
            elapsed(now, last, PAUSED_PING_INTERVAL)
        } else {
            last == NEVER || since >= PING_EVERY || (since > 0 && elapsed(now, last, PING_INTERVAL))
        }
    }

    fn unconfirmed(&self) -> u64 {
        self.next_counter()
            .saturating_sub(self.progress.confirmed.load(Ordering::Relaxed))
    }

    fn fits(&self, buf: &[u8], len: usize) -> Result<(), SealError> {
        if len < MIN_DATAGRAM {
            return Err(SealError::TooShort);
        }
        match buf.len().checked_sub(self.overhead()) {
            Some(room) if room >= len => Ok(()),
            _ => Err(SealError::BufferTooSmall),
        }
    }

    fn seal_next(&self, buf: &mut [u8], len: usize, spin: bool) -> Result<(usize, u64), SealError> {
        if self.next_counter() >= LIMIT {
            return Err(SealError::Exhausted);
        }
        let counter = self.progress.next.fetch_add(1, Ordering::Relaxed);
        self.keys.advance(counter);
        let counter_at = 1 + self.id.len();
        let (header, rest) = buf.split_at_mut(self.header_len());
        let (datagram, tag) = rest.split_at_mut(len);
        self.write_header(header, counter, spin);
        let sealed = self
            .keys
            .with_key(counter, |key| key.seal(counter, header, datagram));
        let Some(Some(sealed)) = sealed else {
            return Err(SealError::NoKey);
        };
        tag.get_mut(..TAG_LEN)
            .ok_or(SealError::BufferTooSmall)?
            .copy_from_slice(&sealed);

        let mask = self.header.mask(buf, counter_at).ok_or(SealError::TooShort)?;
        let (first, rest) = buf.split_first_mut().ok_or(SealError::BufferTooSmall)?;
        let counter_bytes = rest.get_mut(self.id.len()..self.id.len() + COUNTER_LEN);
        apply_mask(mask, first, counter_bytes.ok_or(SealError::BufferTooSmall)?);
        Ok((self.overhead() + len, counter))
    }

    fn write_header(&self, header: &mut [u8], counter: u64, spin: bool) {
        let phase = if counter::generation(counter) & 1 == 0 {
            0
        } else {
            KEY_PHASE_BIT
        };
        let spin = if spin { SPIN_BIT } else { 0 };
        let [.., high, low] = counter.to_be_bytes();
        let bytes = std::iter::once(FIXED_BIT | spin | phase | (COUNTER_LEN as u8 - 1))
            .chain(self.id.as_slice().iter().copied())
            .chain([high, low]);
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = from;
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("id", &self.id)
            .field("next", &self.next_counter())
            .finish_non_exhaustive()
    }
}

fn elapsed(now: Instant, since_us: u64, interval: Duration) -> bool {
    since_us == NEVER || now.duration_since(Instant::from_micros(since_us)) >= interval
}

#[cfg(test)]
#[path = "sealer/tests.rs"]
mod tests;
