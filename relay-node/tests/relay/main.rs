//! A relay on real sockets, and clients that speak to it byte by byte.
#![expect(clippy::unwrap_used, reason = "a test")]

mod client;
mod hostile;
mod observed;
mod overload;
mod process;
mod refusals;
mod relays;
mod rooms;
mod second_port;
mod server;
mod trunks;
mod upstream;
