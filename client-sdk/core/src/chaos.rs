//! A bad link: what it does to packets, by a seed.
//!
//! The one model of a link behind the fault injection of the SDK, tests in virtual time and the UDP proxy of
//! `wzp-bench link`. Nothing here waits: time is an argument, and all chance comes from the seed.

mod link;
mod rng;

pub use link::{Jitter, Link, Loss, Profile, Stats};
pub use rng::Rng;
