//! Decisions of the relay: rooms, fan-out, admission and limits, without IO.
//!
//! Time and randomness are arguments, ports of members are a type parameter that nothing here looks into. What runs
//! for every packet ([`forward()`]) takes shared references only, neither locks nor allocates, and never logs.
#![forbid(unsafe_code)]
#![deny(clippy::needless_pass_by_ref_mut)]

pub mod admission;
pub mod backoff;
pub mod fanout;
pub mod forward;
pub mod leases;
pub mod lifecycle;
pub mod limits;
pub mod meter;
pub mod newest;
pub mod outbox;
pub mod overload;
pub mod probe;
pub mod rooms;
pub mod speakers;
pub mod stats;
pub mod trunk;
pub mod uplink;

pub use fanout::{FanOut, Origin, Outlet, To};
pub use forward::{Heard, NotForwarded, Targets, forward};
pub use rooms::Rooms;
