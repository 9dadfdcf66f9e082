//! The WZP client: calls over one UDP socket.

#![deny(missing_docs)]

pub mod codec;
#[cfg(feature = "device")]
pub mod device;
pub mod dsp;
pub mod wav;
