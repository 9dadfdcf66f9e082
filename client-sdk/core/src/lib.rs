//! Decisions of the client: paths, voice and end-to-end encryption, without IO.

pub mod e2ee;
pub mod voice;
