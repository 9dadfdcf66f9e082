//! WAV files in and out: anything sensible is read, 48 kHz mono 16-bit is written, both as streams.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{ReadError, Reader};
pub use write::{WriteError, Writer};
