//! Relays of a cluster on real sockets, a control plane that does what a test says, and clients that speak byte by byte.
#![expect(clippy::unwrap_used, reason = "a test")]

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../relay/client.rs"]
mod client;
#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../relay/server.rs"]
mod server;

mod attach;
mod drain;
mod plane;
mod rooms;
