//! Dev-only: virtual clock, seeded bad link, link grades, an allocator that counts.
//!
//! Everything here is pure and repeatable: time is an argument ([`wzp_wire::Instant`]) and all chance comes
//! from a seed, so a failing scenario is rerun by its seed alone. Nothing here opens a socket or waits, but
//! [`postgres`], which starts a real one. The bad [`Link`] is the one that the SDK injects faults with.

#![deny(missing_docs)]

pub mod allocations;
mod clock;
mod grades;
pub mod postgres;

pub use clock::{Clock, Skew};
pub use grades::{Grade, UnknownGrade};
pub use wzp_sdk_core::chaos::{Jitter, Link, Loss, Profile, Rng, Stats};
