//! Whole calls in virtual time: members, a relay in memory, bad links between them.
#![expect(clippy::unwrap_used, reason = "what fails in the set-up fails the test")]

mod cluster;
mod hostile;
mod links;
mod members;
mod paths;
mod rejoin;
mod relays;
mod room;
