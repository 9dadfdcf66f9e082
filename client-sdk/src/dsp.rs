//! Signal processing between the devices and the codec, one library behind each door.
//!
//! Everything works on mono `f32` at 48 kHz in `-1.0..=1.0`, in blocks of 10 ms where it has to, and takes its
//! memory when it is made.

mod denoise;
mod echo;
mod resample;

pub use denoise::Denoiser;
pub use echo::{EchoCanceller, EchoOptions};
pub use resample::{Resampler, UnsupportedRate};

/// The sample rate everything inside a call works at.
pub const RATE_HZ: u32 = 48_000;
/// Samples in the 10 ms block that capture and playout are made of.
pub const BLOCK: usize = 480;

/// One sample that is not a number would stay in a filter's memory for the rest of the call.
fn finite(sample: f32) -> f32 {
    if sample.is_finite() {
        sample.clamp(-1.0, 1.0)
    } else {
        0.0
    }
}
