//! Plays a recorded or simulated trace of packets in virtual time, and what a fixed buffer would have made of
//! the same trace.
//!
//! For tests and for tools that tabulate how receiving copes with a link. Nothing here is on the way of a
//! call. Sound is a tone whose phase is the frame's place in time ([`Tones`]), so that what is heard can be
//! checked sample by sample.

use std::time::Duration;

use wzp_wire::{Codec, Header, Instant, Kind, SenderId};

use super::{
    codec::{CodecError, Codecs, Decoder, Encoder},
    fec, jitter,
    receiver::{PULL, Playout, Receiver, Stats},
};

/// A packet as it came out of a link.
#[derive(Debug, Clone)]
pub struct Packet {
    /// When it arrived.
    pub at: Instant,
    /// Its header.
    pub header: Header,
    /// Its counter in its stream.
    pub counter: u64,
    /// Its opened payload.
    pub payload: Vec<u8>,
}

/// What was heard of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The receiver's own figures.
    pub stats: Stats,
    /// Mean delay of what was played, beyond the fastest packet of the whole trace, milliseconds.
    pub delay_ms: f64,
    /// Largest such delay.
    pub longest_delay_ms: f64,
}

impl Outcome {
    /// Frames that came but were of no use, against all frames that came or were recovered; 0.0 to 1.0.
    pub fn late_loss(&self) -> f64 {
        self.stats.late as f64 / (self.stats.received + self.stats.recovered).max(1) as f64
    }

    /// Share of the sound that was concealed, 0.0 to 1.0.
    pub fn concealed(&self) -> f64 {
        self.stats.concealed_ms as f64 / self.stats.played_ms.max(1) as f64
    }
}

/// What a buffer of constant delay makes of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fixed {
    /// Frames that came or were recovered after their time, 0.0 to 1.0 of those known at all.
    pub late_loss: f64,
    /// Share of the sound that was concealed, lost frames included.
    pub concealed: f64,
}

/// Plays `trace` (in order of arrival) until the last packet through a [`Receiver`], pulling every 10 ms.
/// `heard` sees every block of sound.
pub fn replay(
    trace: &[Packet],
    config: jitter::Config,
    mut heard: impl FnMut(Instant, Playout, &[f32; PULL]),
) -> Option<Outcome> {
    let (first, last) = (trace.first()?, trace.last()?);
    let mut receiver = Receiver::new(SenderId::new(1)?, Tones, config);
    let fastest = known_frames(trace).map(|(offset, _)| offset).min()?;
    let mut waiting = trace.iter().peekable();
    let mut now = first.at;
    let (mut sum, mut count, mut longest) = (0.0_f64, 0_u64, 0.0_f64);
    let mut block = [0.0; PULL];
    while now <= last.at {
        while let Some(packet) = waiting.next_if(|packet| packet.at <= now) {
            receiver.handle_packet(packet.at, &packet.header, packet.counter, &packet.payload);
        }
        let playout = receiver.pull(now, &mut block);
        heard(now, playout, &block);
        if let Some(offset) = receiver.offset() {
            let delay = (offset - fastest) as f64 / 1e3;
            sum += delay;
            count += 1;
            longest = longest.max(delay);
        }
        now += Duration::from_millis(10);
    }
    let stats = receiver.stats();
    Some(Outcome {
        stats,
        delay_ms: sum / count.max(1) as f64,
        longest_delay_ms: longest,
    })
}

/// Plays `trace` with every frame exactly `delay` after it would have come on the fastest path of the whole
/// trace: an ideal that no real buffer reaches, since it cannot know that path beforehand. `sent` frames are
/// what was sent altogether.
pub fn fixed(trace: &[Packet], delay: Duration, sent: u64) -> Fixed {
    let delay = delay.as_micros() as i64;
    let fastest = known_frames(trace).map(|(offset, _)| offset).min().unwrap_or(0);
    let (mut known, mut late) = (0_u64, 0_u64);
    for (offset, _) in known_frames(trace) {
        known += 1;
        late += u64::from(offset > fastest + delay);
    }
    let missing = sent.saturating_sub(known) + late;
    Fixed {
        late_loss: late as f64 / known.max(1) as f64,
        concealed: missing as f64 / sent.max(1) as f64,
    }
}

/// Offset (microseconds; arrival minus end of capture) and timestamp of every frame that the trace makes
/// known, once each.
fn known_frames(trace: &[Packet]) -> impl Iterator<Item = (i64, u32)> {
    let mut decoder = fec::Decoder::new();
    let mut known = std::collections::BTreeMap::new();
    for packet in trace
        .iter()
        .filter(|packet| packet.header.kind != Kind::ComfortNoise)
    {
        let at = packet.at.as_micros() as i64;
        // What is refused was lost, which is what it is counted as.
        let _ = decoder.push(&packet.header, &packet.payload, &mut |frame: fec::Frame<'_>| {
            let end = i64::from(frame.timestamp) + i64::from(frame.codec.frame_samples());
            known.entry(frame.timestamp).or_insert(at - end * 125 / 6);
        });
    }
    known.into_iter().map(|(timestamp, offset)| (offset, timestamp))
}

/// A codec whose frames say where they are: decoded, they give a tone of 200 Hz with the phase of their
/// place. Concealment goes on with the tone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tones;

impl Tones {
    /// Pitch of the tone.
    pub const HZ: u32 = 200;
    /// Its amplitude.
    pub const AMPLITUDE: f32 = 0.5;
    /// Length of a frame in bytes.
    pub const FRAME_BYTES: usize = 8;

    /// The frame that begins at `position`.
    pub fn frame(position: u32) -> [u8; Self::FRAME_BYTES] {
        let [a, b, c, d] = position.to_be_bytes();
        [a, b, c, d, !a, !b, !c, !d]
    }

    /// The sample at `position`.
    pub fn sample(position: u32) -> f32 {
        let period = 48_000 / Self::HZ;
        let phase = (position % period) as f32 / period as f32;
        Self::AMPLITUDE * (std::f32::consts::TAU * phase).sin()
    }
}

/// Coder of [`Tones`]: knows where in the stream it is.
#[derive(Debug)]
pub struct Tone {
    samples: u32,
    position: u32,
}

impl Tone {
    fn write(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        let (needed, found) = (self.samples as usize, out.len());
        let out = out
            .get_mut(..needed)
            .ok_or(CodecError::BufferTooSmall { needed, found })?;
        for sample in out {
            *sample = Tones::sample(self.position);
            // A multiple of the period short of 2^32, so that the tone goes on over the wrap.
            self.position = (self.position + 1) % 4_294_967_280;
        }
        Ok(needed)
    }
}

impl Encoder for Tone {
    fn frame_samples(&self) -> usize {
        self.samples as usize
    }

    fn frame_bytes(&self) -> usize {
        Tones::FRAME_BYTES
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let (expected, found) = (self.samples as usize, pcm.len());
        if expected != found {
            return Err(CodecError::FrameLength { expected, found });
        }
        let (needed, found) = (Tones::FRAME_BYTES, out.len());
        let out = out
            .get_mut(..needed)
            .ok_or(CodecError::BufferTooSmall { needed, found })?;
        out.copy_from_slice(&Tones::frame(self.position));
        self.position = self.position.wrapping_add(self.samples);
        Ok(needed)
    }
}

impl Decoder for Tone {
    fn decode(&mut self, frame: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let len = frame.len();
        let [a, b, c, d, rest @ ..] = frame else {
            return Err(CodecError::BadFrame { len });
        };
        if rest != [!a, !b, !c, !d] {
            return Err(CodecError::BadFrame { len });
        }
        self.position = u32::from_be_bytes([*a, *b, *c, *d]) % 4_294_967_280;
        self.write(out)
    }

    fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        self.write(out)
    }
}

impl Codecs for Tones {
    type Encoder = Tone;
    type Decoder = Tone;

    fn encoder(&mut self, codec: Codec) -> Result<Tone, CodecError> {
        Ok(Tone {
            samples: codec.frame_samples(),
            position: 0,
        })
    }

    fn decoder(&mut self, codec: Codec) -> Result<Tone, CodecError> {
        Ok(Tone {
            samples: codec.frame_samples(),
            position: 0,
        })
    }
}
