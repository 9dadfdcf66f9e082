//! Decisions of the client: paths, voice and end-to-end encryption, without IO.

pub mod voice;
