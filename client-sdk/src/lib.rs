//! The WZP client: calls over one UDP socket.

#![deny(missing_docs)]

pub mod codec;
pub mod dsp;
pub mod wav;
