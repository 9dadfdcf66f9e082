//! From captured frames to packets, and from packets back to audible frames.
//!
//! Everywhere in here sound is mono `f32` at 48 kHz in `-1.0..=1.0`, and one block of capture or playout is
//! 10 ms, 480 samples.

pub mod codec;
pub mod comfort;
pub mod drift;
pub mod fec;
pub mod jitter;
pub mod mode;
pub mod quality;
pub mod receiver;
pub mod sender;
pub mod sim;
pub mod stretch;
pub mod vad;
