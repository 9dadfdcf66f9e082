//! libopus 1.6 in the two shapes that calls use.
//!
//! Constant bit rate, one frame a packet, mono at 48 kHz. All memory is taken when an encoder or decoder is
//! made; frames cost none. What comes from a peer is checked for the mode's exact length, duration and
//! channel count before the library sees it.

#![expect(unsafe_code, reason = "a C library, wrapped here and nowhere else")]

use std::ffi::{CStr, c_int};
use std::ptr::{self, NonNull};

use opusic_sys as sys;
use wzp_sdk_core::voice::codec::{self as port, CodecError};

const RATE_HZ: i32 = 48_000;
const CHANNELS: c_int = 1;

/// The shape of one Opus mode.
#[derive(Debug)]
pub(super) struct Settings {
    frame_samples: usize,
    frame_bytes: usize,
    bits_per_second: i32,
    /// Selects what the decoder adds: 5 neural concealment, 7 also NoLACE, which helps below 12 kbps and
    /// hurts a little above.
    decoder_complexity: i32,
}

/// 24 kbps, 20 ms: wideband.
pub(super) static OPUS_24K: Settings = Settings {
    frame_samples: 960,
    frame_bytes: 60,
    bits_per_second: 24_000,
    decoder_complexity: 5,
};

/// 6 kbps, 40 ms: libopus makes it narrowband whatever is asked for, see `docs/adr/0003`.
pub(super) static OPUS_6K: Settings = Settings {
    frame_samples: 1_920,
    frame_bytes: 30,
    bits_per_second: 6_000,
    decoder_complexity: 7,
};

/// Encoder of one Opus mode.
#[derive(Debug)]
pub struct Encoder {
    state: NonNull<sys::OpusEncoder>,
    settings: &'static Settings,
}

// SAFETY: the state is owned, reached only through `&mut self`, and libopus keeps nothing per thread.
unsafe impl Send for Encoder {}

impl Encoder {
    pub(super) fn new(settings: &'static Settings) -> Result<Self, CodecError> {
        let mut code = sys::OPUS_OK;
        // SAFETY: all arguments are valid constants and `code` outlives the call.
        let state =
            unsafe { sys::opus_encoder_create(RATE_HZ, CHANNELS, sys::OPUS_APPLICATION_VOIP, &raw mut code) };
        let state = NonNull::new(state).ok_or(CodecError::Library {
            action: "make an Opus encoder",
            code,
        })?;
        let mut encoder = Self { state, settings };
        encoder.set(sys::OPUS_SET_BITRATE_REQUEST, settings.bits_per_second)?;
        encoder.set(sys::OPUS_SET_VBR_REQUEST, 0)?;
        encoder.set(sys::OPUS_SET_COMPLEXITY_REQUEST, 10)?;
        encoder.set(sys::OPUS_SET_SIGNAL_REQUEST, sys::OPUS_SIGNAL_VOICE)?;
        // Above wideband the codec leaves pure SILK, and neural concealment and NoLACE with it.
        encoder.set(sys::OPUS_SET_BANDWIDTH_REQUEST, sys::OPUS_BANDWIDTH_WIDEBAND)?;
        encoder.set(sys::OPUS_SET_INBAND_FEC_REQUEST, 0)?;
        encoder.set(sys::OPUS_SET_DTX_REQUEST, 0)?;
        Ok(encoder)
    }

    fn set(&mut self, request: c_int, value: i32) -> Result<(), CodecError> {
        // SAFETY: `state` is a live encoder and every request made here takes one 32-bit integer.
        let code = unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), request, value) };
        accepted("configure an Opus encoder", code)
    }
}

impl port::Encoder for Encoder {
    fn frame_samples(&self) -> usize {
        self.settings.frame_samples
    }

    fn frame_bytes(&self) -> usize {
        self.settings.frame_bytes
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let Settings {
            frame_samples,
            frame_bytes,
            ..
        } = *self.settings;
        if pcm.len() != frame_samples {
            return Err(CodecError::FrameLength {
                expected: frame_samples,
                found: pcm.len(),
            });
        }
        let found = out.len();
        let out = out.get_mut(..frame_bytes).ok_or(CodecError::BufferTooSmall {
            needed: frame_bytes,
            found,
        })?;
        // SAFETY: `state` is a live encoder; `pcm` holds `frame_samples` mono samples and `out` `frame_bytes`
        // bytes, as checked above; both counts are small constants.
        let written = unsafe {
            sys::opus_encode_float(
                self.state.as_ptr(),
                pcm.as_ptr(),
                frame_samples as c_int,
                out.as_mut_ptr(),
                frame_bytes as i32,
            )
        };
        if written != frame_bytes as i32 {
            return Err(CodecError::Library {
                action: "encode an Opus frame",
                code: written,
            });
        }
        Ok(frame_bytes)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: `state` came from `opus_encoder_create` and is not used again.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) }
    }
}

/// Decoder of one Opus mode, with neural concealment.
#[derive(Debug)]
pub struct Decoder {
    state: NonNull<sys::OpusDecoder>,
    settings: &'static Settings,
    fade: Fade,
}

// SAFETY: the state is owned, reached only through `&mut self`, and libopus keeps nothing per thread.
unsafe impl Send for Decoder {}

impl Decoder {
    pub(super) fn new(settings: &'static Settings) -> Result<Self, CodecError> {
        let mut code = sys::OPUS_OK;
        // SAFETY: all arguments are valid constants and `code` outlives the call.
        let state = unsafe { sys::opus_decoder_create(RATE_HZ, CHANNELS, &raw mut code) };
        let state = NonNull::new(state).ok_or(CodecError::Library {
            action: "make an Opus decoder",
            code,
        })?;
        let mut decoder = Self {
            state,
            settings,
            fade: Fade::default(),
        };
        decoder.set(sys::OPUS_SET_COMPLEXITY_REQUEST, settings.decoder_complexity)?;
        // Nothing we send has extensions, so a peer's are not even parsed.
        decoder.set(sys::OPUS_SET_IGNORE_EXTENSIONS_REQUEST, 1)?;
        Ok(decoder)
    }

    fn set(&mut self, request: c_int, value: i32) -> Result<(), CodecError> {
        // SAFETY: `state` is a live decoder and every request made here takes one 32-bit integer.
        let code = unsafe { sys::opus_decoder_ctl(self.state.as_ptr(), request, value) };
        accepted("configure an Opus decoder", code)
    }

    /// Whether `frame` has the length, the duration and the channel of this mode.
    fn fits(&self, frame: &[u8]) -> bool {
        if frame.len() != self.settings.frame_bytes {
            return false;
        }
        // SAFETY: `frame` is readable for its length, which is not 0.
        let (samples, channels) = unsafe {
            (
                sys::opus_packet_get_nb_samples(frame.as_ptr(), frame.len() as i32, RATE_HZ),
                sys::opus_packet_get_nb_channels(frame.as_ptr()),
            )
        };
        samples == self.settings.frame_samples as c_int && channels == CHANNELS
    }

    /// Decodes `frame`, or conceals when there is none, into exactly one frame of samples.
    fn run(&mut self, frame: Option<&[u8]>, out: &mut [f32]) -> Result<usize, CodecError> {
        let samples = self.settings.frame_samples;
        let found = out.len();
        let out = out.get_mut(..samples).ok_or(CodecError::BufferTooSmall {
            needed: samples,
            found,
        })?;
        let (data, len) = frame.map_or((ptr::null(), 0), |frame| (frame.as_ptr(), frame.len()));
        // SAFETY: `state` is a live decoder; `data` is readable for `len` bytes, or null with length 0, which
        // asks for concealment; `out` has room for `samples` mono samples.
        let decoded = unsafe {
            sys::opus_decode_float(
                self.state.as_ptr(),
                data,
                len as i32,
                out.as_mut_ptr(),
                samples as c_int,
                0,
            )
        };
        if decoded == samples as c_int {
            clamp(out);
            self.fade.apply(frame.is_none(), out);
            return Ok(samples);
        }
        Err(match frame {
            Some(frame) => CodecError::BadFrame { len: frame.len() },
            None => CodecError::Library {
                action: "conceal an Opus frame",
                code: decoded,
            },
        })
    }
}

impl port::Decoder for Decoder {
    fn decode(&mut self, frame: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        if !self.fits(frame) {
            return Err(CodecError::BadFrame { len: frame.len() });
        }
        self.run(Some(frame), out)
    }

    fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        self.run(None, out)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: `state` came from `opus_decoder_create` and is not used again.
        unsafe { sys::opus_decoder_destroy(self.state.as_ptr()) }
    }
}

/// The library's own name and version, such as `libopus 1.6.1`.
#[must_use]
pub fn version() -> &'static str {
    // SAFETY: the library returns a pointer to a constant, NUL-terminated string.
    let version = unsafe { CStr::from_ptr(sys::opus_get_version_string()) };
    version.to_str().unwrap_or("libopus")
}

fn accepted(action: &'static str, code: c_int) -> Result<(), CodecError> {
    if code == sys::OPUS_OK {
        Ok(())
    } else {
        Err(CodecError::Library { action, code })
    }
}

/// Loudness of what is heard around a gap.
///
/// The neural concealment is a generative model: left alone it babbles on, so a gap is faded to silence from
/// 120 to 280 ms, and speech that returns comes up within 5 ms.
#[derive(Debug)]
struct Fade {
    concealed_samples: usize,
    gain: f32,
}

impl Default for Fade {
    fn default() -> Self {
        Self {
            concealed_samples: 0,
            gain: 1.0,
        }
    }
}

impl Fade {
    const HOLD_SAMPLES: usize = 120 * 48;
    const DOWN: f32 = 1.0 / (160.0 * 48.0);
    const UP: f32 = 1.0 / (5.0 * 48.0);

    fn apply(&mut self, concealed: bool, samples: &mut [f32]) {
        if !concealed {
            self.concealed_samples = 0;
            if self.gain == 1.0 {
                return;
            }
        }
        for sample in samples {
            if !concealed {
                self.gain = (self.gain + Self::UP).min(1.0);
            } else if self.concealed_samples < Self::HOLD_SAMPLES {
                self.concealed_samples += 1;
            } else {
                self.gain = (self.gain - Self::DOWN).max(0.0);
            }
            *sample *= self.gain;
        }
    }
}

/// The codec may overshoot full scale, and must not hand on what is not a number.
fn clamp(samples: &mut [f32]) {
    for sample in samples {
        *sample = if sample.is_finite() {
            sample.clamp(-1.0, 1.0)
        } else {
            0.0
        };
    }
}
