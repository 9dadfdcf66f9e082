//! A relay on real sockets, and clients that speak to it byte by byte.
#![expect(clippy::unwrap_used, reason = "a test")]

mod client;
mod rooms;
mod server;
