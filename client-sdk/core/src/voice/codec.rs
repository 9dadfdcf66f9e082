//! The only view the core has of a codec library.
//!
//! Every mode has a constant bit rate: all frames of one [`Codec`] have the same length in samples and the
//! same length in bytes ([`Encoder::frame_bytes`]). Forward error correction relies on it, and it keeps what
//! is said out of the packet sizes.

pub use wzp_wire::Codec;

/// Turns captured sound into frames of one mode.
pub trait Encoder: Send {
    /// Samples of 48 kHz mono in one frame: 960 or 1920.
    fn frame_samples(&self) -> usize;

    /// Length of every encoded frame in bytes.
    fn frame_bytes(&self) -> usize;

    /// Encodes exactly one frame into the front of `out` and returns its length, always
    /// [`Encoder::frame_bytes`]. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`CodecError::FrameLength`] unless `pcm` holds [`Encoder::frame_samples`] samples,
    /// [`CodecError::BufferTooSmall`] when `out` cannot take the frame, [`CodecError::Library`] when the
    /// library refuses.
    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError>;
}

/// Turns frames of one mode back into sound. `out` may be longer than a frame; the rest is left alone.
pub trait Decoder: Send {
    /// Decodes one frame and returns the number of samples written. Does not allocate.
    ///
    /// # Errors
    ///
    /// [`CodecError::BadFrame`] when `frame` is not a frame of this mode (the decoder stays usable),
    /// [`CodecError::BufferTooSmall`] when `out` is shorter than a frame.
    fn decode(&mut self, frame: &[u8], out: &mut [f32]) -> Result<usize, CodecError>;

    /// Invents one frame in the place of a lost one and returns the number of samples written.
    ///
    /// # Errors
    ///
    /// [`CodecError::BufferTooSmall`] when `out` is shorter than a frame.
    fn conceal(&mut self, out: &mut [f32]) -> Result<usize, CodecError>;
}

/// Makes encoders and decoders: the door to the codec libraries.
pub trait Codecs: Send {
    /// Encoder of any mode.
    type Encoder: Encoder;
    /// Decoder of any mode.
    type Decoder: Decoder;

    /// Makes an encoder with fresh state.
    ///
    /// # Errors
    ///
    /// [`CodecError::Library`] when the library cannot set it up.
    fn encoder(&mut self, codec: Codec) -> Result<Self::Encoder, CodecError>;

    /// Makes a decoder with fresh state.
    ///
    /// # Errors
    ///
    /// [`CodecError::Library`] when the library cannot set it up.
    fn decoder(&mut self, codec: Codec) -> Result<Self::Decoder, CodecError>;
}

/// Why a frame could not be encoded or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The caller handed over something else than exactly one frame.
    #[error("a frame has {expected} samples, not {found}")]
    FrameLength {
        /// Samples in a frame of this mode.
        expected: usize,
        /// Samples handed over.
        found: usize,
    },
    /// The caller's buffer cannot hold the result.
    #[error("the output needs room for {needed} elements but has {found}")]
    BufferTooSmall {
        /// Bytes or samples needed.
        needed: usize,
        /// Bytes or samples there were.
        found: usize,
    },
    /// The peer sent bytes that are not a frame of this mode.
    #[error("not a frame of this codec ({len} bytes)")]
    BadFrame {
        /// Length of what was received.
        len: usize,
    },
    /// The codec library refused.
    #[error("codec library failed to {action} (code {code})")]
    Library {
        /// What it was asked to do.
        action: &'static str,
        /// The library's own error code.
        code: i32,
    },
}
