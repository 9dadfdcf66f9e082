//! Makes the sound for each decision of the jitter buffer, without a seam between one kind and the next.

use wzp_wire::Codec;

use crate::voice::{
    codec::{Codecs, Decoder},
    comfort::Noise,
    jitter::STEP,
    stretch::Pcm,
};

/// Longest frame: 40 ms.
const FRAME_MAX: usize = 1_920;
/// Length of cross-fades: 5 ms.
const FADE: usize = 240;
/// Steps of concealment at full strength: 120 ms.
const FULL_STEPS: u32 = 12;
/// Steps in which it then fades into comfort noise: 80 ms.
const FADE_STEPS: f32 = 8.0;

/// Decoders, concealment and comfort noise of one sender.
pub(super) struct Synth<C: Codecs> {
    codecs: C,
    decoders: [Option<C::Decoder>; 3],
    codec: Option<Codec>,
    noise: Noise,
    frame: Box<[f32; FRAME_MAX]>,
    /// A concealed frame, of which `tail[at..len]` has not been used.
    tail: Box<[f32; FRAME_MAX]>,
    tail_at: usize,
    tail_len: usize,
    /// How strong the sender's sound is at the end of what was made, and the noise.
    voice_gain: f32,
    noise_gain: f32,
    concealed: u32,
}

impl<C: Codecs> Synth<C> {
    pub(super) fn new(codecs: C) -> Self {
        Self {
            codecs,
            decoders: [None, None, None],
            codec: None,
            noise: Noise::new(),
            frame: Box::new([0.0; FRAME_MAX]),
            tail: Box::new([0.0; FRAME_MAX]),
            tail_at: 0,
            tail_len: 0,
            voice_gain: 0.0,
            noise_gain: 0.0,
            concealed: 0,
        }
    }

    /// The codec used last.
    pub(super) fn codec(&self) -> Option<Codec> {
        self.codec
    }

    /// Decodes a frame into the queue. A frame that is none is concealed instead; returns false then.
    pub(super) fn decode(&mut self, codec: Codec, bytes: &[u8], pcm: &mut Pcm) -> bool {
        if self.codec.is_some_and(|old| old != codec) && self.tail_at == self.tail_len {
            // The old decoder leads over to the new one.
            self.refill_tail();
        }
        self.codec = Some(codec);
        let decoder = &mut self.decoders[codec as usize - 1];
        if decoder.is_none() {
            *decoder = self.codecs.decoder(codec).ok();
        }
        let decoded = decoder
            .as_mut()
            .and_then(|decoder| decoder.decode(bytes, &mut self.frame[..]).ok());
        let Some(len) = decoded.filter(|len| (1..=FRAME_MAX).contains(len)) else {
            for _ in 0..codec.frame_samples() as usize / STEP {
                self.conceal(pcm);
            }
            return false;
        };
        self.lead_over(len);
        self.concealed = 0;
        let frame = &mut self.frame[..len];
        let fade = FADE.min(len);
        scale(&mut frame[..fade], self.voice_gain, 1.0);
        frame[..fade]
            .iter_mut()
            .for_each(|sample| *sample = finite(*sample));
        frame[fade..]
            .iter_mut()
            .for_each(|sample| *sample = finite(*sample));
        frame
            .chunks_exact(STEP)
            .for_each(|block| self.noise.listen(block));
        if self.noise_gain > 0.0 {
            self.noise.add(&mut frame[..fade], self.noise_gain, 0.0);
        }
        (self.voice_gain, self.noise_gain) = (1.0, 0.0);
        pcm.push(frame);
        true
    }

    /// One step of concealment: what the decoder makes up, then less and less of it.
    pub(super) fn conceal(&mut self, pcm: &mut Pcm) {
        self.concealed += 1;
        let over = self.concealed.saturating_sub(FULL_STEPS) as f32;
        self.step(1.0 - (over / FADE_STEPS).min(1.0), pcm);
    }

    /// One step of comfort noise, of a new level if one is given.
    pub(super) fn comfort(&mut self, level: Option<u8>, pcm: &mut Pcm) {
        self.concealed = 0;
        if let Some(level) = level {
            self.noise.set_level(level);
        }
        self.step(0.0, pcm);
    }

    /// One step in which the sender's sound goes to `voice_gain` and noise makes up for it.
    fn step(&mut self, voice_gain: f32, pcm: &mut Pcm) {
        let mut block = [0.0; STEP];
        let voice_gain = voice_gain.min(self.voice_gain);
        if self.voice_gain > 0.0 {
            if self.tail_at == self.tail_len {
                self.refill_tail();
            }
            let n = (self.tail_len - self.tail_at).min(STEP);
            block[..n].copy_from_slice(&self.tail[self.tail_at..self.tail_at + n]);
            self.tail_at += n;
            scale(&mut block, self.voice_gain, voice_gain);
        } else {
            self.tail_at = self.tail_len;
        }
        let noise_gain = 1.0 - voice_gain;
        self.noise.add(&mut block, self.noise_gain, noise_gain);
        (self.voice_gain, self.noise_gain) = (voice_gain, noise_gain);
        pcm.push(&block);
    }

    fn refill_tail(&mut self) {
        self.tail_at = 0;
        let decoder = self
            .codec
            .and_then(|codec| self.decoders[codec as usize - 1].as_mut());
        let len = decoder
            .and_then(|decoder| decoder.conceal(&mut self.tail[..]).ok())
            .unwrap_or(0);
        self.tail_len = len.min(FRAME_MAX);
        self.tail[..self.tail_len]
            .iter_mut()
            .for_each(|sample| *sample = finite(*sample));
    }

    /// Blends what is left of the concealment into the new frame, and drops it.
    fn lead_over(&mut self, len: usize) {
        let rest = &self.tail[self.tail_at..self.tail_len];
        let fade = rest.len().min(FADE).min(len);
        if self.voice_gain > 0.0 {
            for (n, (new, old)) in self.frame[..fade].iter_mut().zip(rest).enumerate() {
                *new = old + (*new - old) * (n as f32 + 0.5) / fade as f32;
            }
        }
        self.tail_at = self.tail_len;
    }
}

/// Multiplies by a gain that goes from `from` to `to`.
fn scale(block: &mut [f32], from: f32, to: f32) {
    let step = (to - from) / block.len().max(1) as f32;
    let mut gain = from;
    for sample in block {
        gain += step;
        *sample *= gain;
    }
}

/// A decoder fed by a hostile sender may produce anything; what leaves here is a number in range.
fn finite(sample: f32) -> f32 {
    if sample.is_finite() {
        sample.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}
