//! Client sockets and relay threads on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod detour;
mod lanes;
mod quic;
mod rig;
mod strangers;
