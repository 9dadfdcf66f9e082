//! Decisions of the client: paths, voice, end-to-end encryption and faults for tests, without IO.

pub mod call;
pub mod carrier;
pub mod chaos;
pub mod e2ee;
pub mod observed;
pub mod paths;
pub mod silence;
pub mod voice;
