//! Dev-only: virtual clock, seeded bad link, link grades.
//!
//! Everything here is pure and repeatable: time is an argument ([`wzp_wire::Instant`]) and all chance comes
//! from a seed, so a failing scenario is rerun by its seed alone. Nothing here opens a socket or waits; the
//! same [`Link`] stands behind tests in virtual time and behind a UDP proxy in real time.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod clock;
mod grades;
mod link;
mod rng;

pub use clock::{Clock, Skew};
pub use grades::{Grade, UnknownGrade};
pub use link::{Jitter, Link, Loss, Profile, Stats};
pub use rng::Rng;
