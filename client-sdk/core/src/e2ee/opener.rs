//! What is known of another member's sender key, and the opening of its packets.
//!
//! Nothing here changes before a packet has authenticated: neither the replay window, nor the ratchet, nor the
//! contexts of mini headers.

use std::{ops::Range, time::Duration};

use subtle::ConstantTimeEq;
use wzp_wire::{Decompressor, Header, HeaderError, Instant, Stream, media::FULL_LEN};

use super::{
    epoch::{Chain, Epoch, Forged, MediaKeys},
    event::{Misbehaviour, OpenError},
    replay::{Stale, Window},
};

/// How long a key is good after a newer one was used.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// How long a key is good after a newer one was given to us, used or not: whoever left has it, and a talker who says
/// nothing uses no newer one. Longer than any sender takes to hand out a generation before it begins to use it.
pub(super) const SUPERSEDED: Duration = Duration::from_secs(30);
const GENERATIONS: usize = 3;
const RETIRED: usize = 8;

pub(super) struct Opener {
    /// Newest first.
    generations: Vec<Generation>,
    /// Steps that were left behind, newest last.
    retired: Vec<Retired>,
    source: Window,
    repair: Window,
    decompressor: Decompressor,
    /// When a key was last installed or a packet opened.
    alive_at: Instant,
}

struct Generation {
    chain: Chain,
    media: MediaKeys,
    until: Option<Instant>,
}

struct Retired {
    epoch: Epoch,
    media: MediaKeys,
    until: Instant,
}

/// An opened packet; the payload is at `payload` in its buffer.
pub(super) struct Found {
    pub(super) header: Header,
    pub(super) counter: u64,
    pub(super) payload: Range<usize>,
}

impl Opener {
    pub(super) fn new() -> Self {
        Self {
            generations: Vec::with_capacity(GENERATIONS + 1),
            retired: Vec::with_capacity(RETIRED + 1),
            source: Window::new(),
            repair: Window::new(),
            decompressor: Decompressor::new(),
            alive_at: Instant::ZERO,
        }
    }

    /// Takes a key that the member gave us, with its counters at that moment.
    pub(super) fn install(
        &mut self,
        now: Instant,
        chain: Chain,
        counters: [u64; 2],
    ) -> Result<(), Misbehaviour> {
        match self
            .generations
            .iter()
            .find(|known| known.chain.generation == chain.generation)
        {
            Some(known) => agree(&known.chain, &chain)?,
            None => self.insert(now, chain),
        }
        self.alive_at = now;
        let [source, repair] = counters;
        self.source.expect(source);
        self.repair.expect(repair);
        Ok(())
    }

    /// Opens `packet` in place.
    pub(super) fn open(&mut self, now: Instant, packet: &mut [u8]) -> Result<Found, OpenError> {
        self.expire(now);
        let (header, _, header_len) = self.decompressor.read(packet).map_err(|error| match error {
            HeaderError::UnknownContext(_) => OpenError::UnknownContext,
            error => OpenError::Header(error),
        })?;
        let stream = header.kind.stream();
        let counter = self.window(stream).counter(header.seq).ok_or(OpenError::TooOld)?;
        self.window(stream).check(counter).map_err(|stale| match stale {
            Stale::Duplicate => OpenError::Duplicate,
            Stale::TooOld => OpenError::TooOld,
        })?;
        let aad = header.encode().map_err(OpenError::Header)?;
        let sealed = packet.get_mut(header_len..).ok_or(OpenError::Failed)?;
        let len = self.unseal(now, Epoch(header.epoch), stream, counter, &aad, sealed)?;

        self.alive_at = now;
        self.window_mut(stream).mark(counter);
        if header_len == FULL_LEN {
            self.decompressor.accept(&header);
        }
        Ok(Found {
            header,
            counter,
            payload: header_len..header_len + len,
        })
    }

    fn unseal(
        &mut self,
        now: Instant,
        epoch: Epoch,
        stream: Stream,
        counter: u64,
        aad: &[u8],
        sealed: &mut [u8],
    ) -> Result<usize, OpenError> {
        let failed = |Forged| OpenError::Failed;
        if let Some(at) = self
            .generations
            .iter()
            .position(|known| epoch.is_of(known.chain.generation))
            && let Some(known) = self.generations.get(at)
            && epoch.step() >= known.chain.step
        {
            if epoch.step() == known.chain.step {
                let len = known
                    .media
                    .of(stream)
                    .open(counter, aad, sealed)
                    .map_err(failed)?
                    .len();
                self.used(now, at);
                return Ok(len);
            }
            let chain = advance(known.chain.clone(), epoch.step());
            let media = chain.media();
            let len = media.of(stream).open(counter, aad, sealed).map_err(failed)?.len();
            self.step_to(now, at, epoch.step());
            self.used(now, at);
            return Ok(len);
        }
        if let Some(retired) = self.retired.iter().rev().find(|retired| retired.epoch == epoch) {
            return Ok(retired
                .media
                .of(stream)
                .open(counter, aad, sealed)
                .map_err(failed)?
                .len());
        }
        Err(self.no_key(now, epoch))
    }

    /// Five bits do not tell a key that is gone from one far ahead, so that "old" is believed only of a member
    /// that was understood a moment ago: of any other, the key is asked for.
    fn no_key(&self, now: Instant, epoch: Epoch) -> OpenError {
        let recent = now < self.alive_at + GRACE * 2;
        match self.generations.first() {
            Some(newest) if epoch.is_of(newest.chain.generation) => OpenError::OldEpoch,
            Some(newest) if recent && epoch.is_before(newest.chain.generation) => OpenError::OldEpoch,
            _ => OpenError::NoKeyYet,
        }
    }

    /// A packet of this generation authenticated: older ones have [`GRACE`] left.
    fn used(&mut self, now: Instant, at: usize) {
        self.end_older(at, now + GRACE);
    }

    /// Whatever is older than the generation at `at` is good until `end` at the latest.
    fn end_older(&mut self, at: usize, end: Instant) {
        for older in self.generations.iter_mut().skip(at + 1) {
            older.until = Some(older.until.map_or(end, |until| until.min(end)));
        }
    }

    /// Moves a generation to a later step and keeps the keys, but not the secrets, of those it leaves.
    fn step_to(&mut self, now: Instant, at: usize, step: u8) {
        let Some(known) = self.generations.get_mut(at) else {
            return;
        };
        while known.chain.step < step
            && let Some(chain) = known.chain.ratchet()
        {
            if self.retired.len() == RETIRED {
                self.retired.remove(0);
            }
            let media = std::mem::replace(&mut known.media, chain.media());
            self.retired.push(Retired {
                epoch: known.chain.epoch(),
                media,
                until: now + GRACE,
            });
            known.chain = chain;
        }
    }

    fn insert(&mut self, now: Instant, chain: Chain) {
        let byte = Epoch::new(chain.generation, 0);
        // Whatever shares the five bits is at least 32 generations away and only in the way.
        self.generations
            .retain(|known| !byte.is_of(known.chain.generation));
        self.retired
            .retain(|retired| !retired.epoch.is_of(chain.generation));
        let at = self
            .generations
            .partition_point(|known| known.chain.generation > chain.generation);
        self.generations.insert(
            at,
            Generation {
                media: chain.media(),
                chain,
                until: None,
            },
        );
        self.generations.truncate(GENERATIONS);
        self.end_older(0, now + SUPERSEDED);
    }

    fn expire(&mut self, now: Instant) {
        self.generations
            .retain(|known| known.until.is_none_or(|until| now < until));
        self.retired.retain(|retired| now < retired.until);
    }

    fn window(&self, stream: Stream) -> &Window {
        match stream {
            Stream::Source => &self.source,
            Stream::Repair => &self.repair,
        }
    }

    fn window_mut(&mut self, stream: Stream) -> &mut Window {
        match stream {
            Stream::Source => &mut self.source,
            Stream::Repair => &mut self.repair,
        }
    }
}

fn advance(mut chain: Chain, step: u8) -> Chain {
    while chain.step < step
        && let Some(next) = chain.ratchet()
    {
        chain = next;
    }
    chain
}

/// A key given again must be the known one, or follow from it. What came before the known one cannot be told.
fn agree(known: &Chain, given: &Chain) -> Result<(), Misbehaviour> {
    if given.step < known.step {
        return Ok(());
    }
    let expected = advance(known.clone(), given.step);
    if bool::from(expected.secret.as_slice().ct_eq(given.secret.as_slice())) {
        Ok(())
    } else {
        Err(Misbehaviour::KeySwapped)
    }
}
