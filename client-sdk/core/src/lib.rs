//! Decisions of the client: paths, voice and end-to-end encryption, without IO.

pub mod call;
pub mod carrier;
pub mod e2ee;
pub mod observed;
pub mod paths;
pub mod silence;
pub mod voice;
