//! The door to the codec libraries: the only place that knows libopus and Codec2.

mod codec2;
mod opus;
mod rate;
#[cfg(test)]
mod tests;

use wzp_sdk_core::voice::codec::{self as port, Codec, CodecError};

pub use opus::version as opus_version;

/// Makes encoders and decoders of every [`Codec`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Library;

/// An encoder of any mode.
#[derive(Debug)]
#[non_exhaustive]
pub enum Encoder {
    /// Opus at either rate.
    Opus(opus::Encoder),
    /// Codec2.
    Codec2(Box<codec2::Encoder>),
}

/// A decoder of any mode.
#[derive(Debug)]
#[non_exhaustive]
pub enum Decoder {
    /// Opus at either rate.
    Opus(opus::Decoder),
    /// Codec2.
    Codec2(Box<codec2::Decoder>),
}

impl port::Codecs for Library {
    type Encoder = Encoder;
    type Decoder = Decoder;

    fn encoder(&mut self, codec: Codec) -> Result<Encoder, CodecError> {
        Ok(match codec {
            Codec::Opus24k => Encoder::Opus(opus::Encoder::new(&opus::OPUS_24K)?),
            Codec::Opus6k => Encoder::Opus(opus::Encoder::new(&opus::OPUS_6K)?),
            Codec::Codec2_1200 => Encoder::Codec2(Box::new(codec2::Encoder::new())),
        })
    }

    fn decoder(&mut self, codec: Codec) -> Result<Decoder, CodecError> {
        Ok(match codec {
            Codec::Opus24k => Decoder::Opus(opus::Decoder::new(&opus::OPUS_24K)?),
            Codec::Opus6k => Decoder::Opus(opus::Decoder::new(&opus::OPUS_6K)?),
            Codec::Codec2_1200 => Decoder::Codec2(Box::new(codec2::Decoder::new())),
        })
    }
}

impl port::Encoder for Encoder {
    fn frame_samples(&self) -> usize {
        match self {
            Self::Opus(encoder) => encoder.frame_samples(),
            Self::Codec2(encoder) => encoder.frame_samples(),
        }
    }

    fn frame_bytes(&self) -> usize {
        match self {
            Self::Opus(encoder) => encoder.frame_bytes(),
            Self::Codec2(encoder) => encoder.frame_bytes(),
        }
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        match self {
            Self::Opus(encoder) => encoder.encode(pcm, out),
            Self::Codec2(encoder) => encoder.encode(pcm, out),
        }
    }
}

impl port::Decoder for Decoder {
    fn decode(&mut self, frame: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        match self {
            Self::Opus(decoder) => decoder.decode(frame, out),
            Self::Codec2(decoder) => decoder.decode(frame, out),
        }
    }

    fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError> {
        match self {
            Self::Opus(decoder) => decoder.conceal(out),
            Self::Codec2(decoder) => decoder.conceal(out),
        }
    }
}
