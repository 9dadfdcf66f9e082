//! Our own sender key and the packets sealed with it.
//!
//! A nonce never repeats under a key, for three independent reasons: the counter of a stream is owned here, only
//! ever rises, and is not reset when the key changes; every generation is 32 fresh random bytes and every step a
//! one-way function of the one before, so that also the epoch byte may wrap; and nothing of this is ever stored,
//! so that a restart begins with new random bytes.

use wzp_wire::{Compressor, Header, Instant, Stream, media::FULL_LEN};
use zeroize::Zeroizing;

use super::{
    epoch::{COUNTER_END, Chain, MediaKeys, TAG},
    event::SealError,
};

/// What a sealed packet has at most on top of its payload: full header and tag.
pub const OVERHEAD: usize = FULL_LEN + TAG;

pub(super) struct Sealer {
    chain: Chain,
    media: MediaKeys,
    /// Something was sealed under this very step.
    used: bool,
    /// Already handed out, in use from then on.
    next: Option<(Chain, Instant)>,
    source: Numbered,
    repair: Numbered,
}

struct Numbered {
    counter: u64,
    compressor: Compressor,
}

impl Sealer {
    pub(super) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let chain = Chain {
            generation: 0,
            step: 0,
            secret,
        };
        Self {
            media: chain.media(),
            chain,
            used: false,
            next: None,
            source: Numbered {
                counter: 0,
                compressor: Compressor::new(Stream::Source),
            },
            repair: Numbered {
                counter: 0,
                compressor: Compressor::new(Stream::Repair),
            },
        }
    }

    /// A new generation, to be used from `at` on.
    pub(super) fn stage(&mut self, secret: Zeroizing<[u8; 32]>, at: Instant) {
        let generation = self.newest().generation.wrapping_add(1);
        self.next = Some((
            Chain {
                generation,
                step: 0,
                secret,
            },
            at,
        ));
    }

    /// Begins to use what was staged, when it is time. Says whether the epoch changed.
    pub(super) fn switch(&mut self, now: Instant) -> bool {
        match self.next.take_if(|(_, at)| *at <= now) {
            Some((chain, _)) => {
                self.turn(chain);
                true
            }
            None => false,
        }
    }

    /// One step forward, unless the last one was reached: then only a new generation helps.
    pub(super) fn ratchet(&mut self) -> bool {
        match self.chain.ratchet() {
            Some(chain) => {
                self.turn(chain);
                true
            }
            None => false,
        }
    }

    /// `out` = header ‖ ciphertext ‖ tag.
    pub(super) fn seal(
        &mut self,
        now: Instant,
        header: &mut Header,
        payload: &[u8],
        out: &mut [u8],
    ) -> Result<usize, SealError> {
        if out.len() < payload.len() + OVERHEAD {
            return Err(SealError::BufferTooSmall);
        }
        let stream = header.kind.stream();
        let numbered = match stream {
            Stream::Source => &mut self.source,
            Stream::Repair => &mut self.repair,
        };
        let counter = numbered.counter;
        if counter >= COUNTER_END {
            return Err(SealError::Exhausted);
        }
        let [low, high, ..] = counter.to_le_bytes();
        header.seq = u16::from_le_bytes([low, high]);
        header.epoch = self.chain.epoch().0;
        let header_len = numbered
            .compressor
            .write(now, header, out)
            .map_err(|_| SealError::Header)?;
        // Used up before it is used: whatever fails below, it does not come again.
        numbered.counter += 1;
        self.used = true;

        let aad = header.encode().map_err(|_| SealError::Header)?;
        let body = out
            .get_mut(header_len..header_len + payload.len() + TAG)
            .ok_or(SealError::BufferTooSmall)?;
        let (text, tag) = body
            .split_last_chunk_mut::<TAG>()
            .ok_or(SealError::BufferTooSmall)?;
        text.copy_from_slice(payload);
        *tag = self
            .media
            .of(stream)
            .seal(counter, &aad, text)
            .map_err(|_| SealError::BufferTooSmall)?;
        Ok(header_len + payload.len() + TAG)
    }

    /// What a member is to be given: the newest generation.
    pub(super) fn newest(&self) -> &Chain {
        self.next.as_ref().map_or(&self.chain, |(chain, _)| chain)
    }

    /// Whether the newest step protects packets that a newcomer must not read.
    pub(super) fn has_past(&self) -> bool {
        self.used && self.next.is_none()
    }

    pub(super) fn switch_at(&self) -> Option<Instant> {
        self.next.as_ref().map(|(_, at)| *at)
    }

    pub(super) fn epoch(&self) -> u8 {
        self.chain.epoch().0
    }

    /// Where the counters of source and repair stand.
    pub(super) fn counters(&self) -> [u64; 2] {
        [self.source.counter, self.repair.counter]
    }

    fn turn(&mut self, chain: Chain) {
        self.media = chain.media();
        self.chain = chain;
        self.used = false;
    }

    /// What the last packet of the stream was sealed with.
    #[cfg(test)]
    pub(super) fn last_key_and_nonce(&self, stream: Stream) -> ([u8; 32], [u8; 12]) {
        let [source, repair] = self.counters();
        let next = if stream == Stream::Source { source } else { repair };
        self.media.of(stream).key_and_nonce(next - 1)
    }

    #[cfg(test)]
    pub(super) fn jump(&mut self, counter: u64) {
        self.source.counter = counter;
        self.repair.counter = counter;
    }
}
