//! A bad link: `wzp-bench link` as a process.

use std::net::SocketAddr;

use crate::process::{Process, Scratch};

/// A link to a relay that loses and delays; it ends when this is dropped.
#[derive(Debug)]
pub struct Link {
    /// Where clients connect.
    pub address: SocketAddr,
    _process: Process,
    _home: Scratch,
}

impl Link {
    /// Starts one with these flags of `wzp-bench link`.
    pub fn start(relay: SocketAddr, flags: &[&str]) -> Self {
        let home = Scratch::default();
        let to = relay.to_string();
        let process = Process::start("wzp-bench", &home, &[&["link", "--to", &to], flags].concat());
        let address = process.line("address of the link", |line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split_once(',')?.0.parse().ok()
        });
        Self {
            address,
            _process: process,
            _home: home,
        }
    }
}
