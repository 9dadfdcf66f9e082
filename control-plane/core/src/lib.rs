//! Decisions of the control plane, without IO: which relays there are, who serves a room, who probes whom.
//!
//! Time, chance and what other processes said are arguments. Nothing here writes: a decision is a value
//! ([`leases::Write`], [`registry::Output`], [`drain::Step`]) that the shell makes true, and then tells back.
//! [`World`] holds what one replica knows; the modules can be used alone.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![deny(clippy::needless_pass_by_ref_mut)]

pub mod capacity;
pub mod drain;
pub mod leases;
pub mod limits;
pub mod list;
pub mod load;
pub mod mesh;
pub mod placement;
pub mod policy;
pub mod probes;
pub mod registry;
pub mod relay;
#[cfg(test)]
mod testing;
mod world;

pub use leases::{Cause, Lease, Seat};
pub use registry::Registry;
pub use relay::{
    Address, AddressReport, AddressSource, BootId, Capacity, Heartbeat, Hello, Place, Probe, StreamId,
};
pub use world::World;
