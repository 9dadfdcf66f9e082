//! Codec2 at 1200 bps: 6 bytes for 40 ms of narrowband speech.

use codec2::{Codec2, Codec2Mode};
use wzp_sdk_core::voice::codec::{self as port, CodecError};

use super::rate::{Down, FACTOR, Up};

const FRAME_BYTES: usize = 6;
const NARROW_SAMPLES: usize = 320;
const FRAME_SAMPLES: usize = NARROW_SAMPLES * FACTOR;
/// Loudness at the end of each repeated frame: a gap of up to 120 ms is bridged, a longer one falls silent.
const FADE: [f32; 3] = [0.7, 0.35, 0.0];

/// Encoder of the vocoder mode.
#[derive(Debug)]
pub struct Encoder {
    codec: Codec2,
    down: Down,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            codec: Codec2::new(Codec2Mode::MODE_1200),
            down: Down::new(),
        }
    }
}

impl port::Encoder for Encoder {
    fn frame_samples(&self) -> usize {
        FRAME_SAMPLES
    }

    fn frame_bytes(&self) -> usize {
        FRAME_BYTES
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        if pcm.len() != FRAME_SAMPLES {
            return Err(CodecError::FrameLength {
                expected: FRAME_SAMPLES,
                found: pcm.len(),
            });
        }
        let found = out.len();
        let out = out.get_mut(..FRAME_BYTES).ok_or(CodecError::BufferTooSmall {
            needed: FRAME_BYTES,
            found,
        })?;
        let mut finite = [0.0; FRAME_SAMPLES];
        for (finite, &sample) in finite.iter_mut().zip(pcm) {
            // One sample that is not a number would stay in the filter's history for good.
            *finite = if sample.is_finite() {
                sample.clamp(-1.0, 1.0)
            } else {
                0.0
            };
        }
        let mut narrow = [0.0; NARROW_SAMPLES];
        self.down.process(&finite, &mut narrow);
        self.codec
            .encode(out, &narrow.map(|sample| (sample * 32_767.0) as i16));
        Ok(FRAME_BYTES)
    }
}

/// Decoder of the vocoder mode. A lost frame is the last one again, fading.
#[derive(Debug)]
pub struct Decoder {
    codec: Codec2,
    up: Up,
    last: Option<[u8; FRAME_BYTES]>,
    lost_in_a_row: usize,
    gain: f32,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            codec: Codec2::new(Codec2Mode::MODE_1200),
            up: Up::new(),
            last: None,
            lost_in_a_row: 0,
            gain: 0.0,
        }
    }

    /// Synthesises `frame`, its loudness moving from where the last frame ended to `gain`.
    fn synthesise(&mut self, frame: Option<[u8; FRAME_BYTES]>, gain: f32, out: &mut [f32]) {
        let mut speech = [0; NARROW_SAMPLES];
        if let Some(frame) = frame {
            self.codec.decode(&mut speech, &frame);
        }
        let step = (gain - self.gain) / NARROW_SAMPLES as f32;
        let mut narrow = [0.0; NARROW_SAMPLES];
        for (narrow, sample) in narrow.iter_mut().zip(speech) {
            self.gain += step;
            *narrow = f32::from(sample) / 32_768.0 * self.gain;
        }
        self.gain = gain;
        self.up.process(&narrow, out);
        for sample in out {
            *sample = sample.clamp(-1.0, 1.0);
        }
    }
}

impl port::Decoder for Decoder {
    fn decode(&mut self, frame: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let frame: [u8; FRAME_BYTES] = frame
            .try_into()
            .map_err(|_| CodecError::BadFrame { len: frame.len() })?;
        let out = room(out)?;
        if self.last.is_none() {
            self.gain = 1.0;
        }
        self.last = Some(frame);
        self.lost_in_a_row = 0;
        self.synthesise(Some(frame), 1.0, out);
        Ok(FRAME_SAMPLES)
    }

    fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        let out = room(out)?;
        let gain = FADE.get(self.lost_in_a_row).copied();
        self.lost_in_a_row = self.lost_in_a_row.saturating_add(1);
        let frame = gain.and(self.last);
        self.synthesise(frame, gain.unwrap_or(0.0), out);
        Ok(FRAME_SAMPLES)
    }
}

fn room(out: &mut [f32]) -> Result<&mut [f32], CodecError> {
    let found = out.len();
    out.get_mut(..FRAME_SAMPLES).ok_or(CodecError::BufferTooSmall {
        needed: FRAME_SAMPLES,
        found,
    })
}
