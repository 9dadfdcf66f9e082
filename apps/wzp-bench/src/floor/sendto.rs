//! Bare `sendto` to 64 addresses, one system call a datagram.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context;

use super::{Floor, Work};
use crate::cpu;
use crate::load::{Pace, Rooms, Shape};

const RECEIVERS: Shape = Shape {
    rooms: 64,
    members: 1,
    talkers: 0,
};

/// Rounds of one datagram to each receiver: as many packets out as a busy forwarder sends.
const ROUNDS_PER_SECOND: u32 = 500;

pub(super) fn run(duration: Duration, datagram_bytes: usize) -> anyhow::Result<Floor> {
    let mut receivers = Rooms::bind(RECEIVERS)?;
    let addresses: Vec<SocketAddr> = receivers
        .addresses()
        .iter()
        .map(|address| address.remote())
        .collect();
    let sending = std::thread::Builder::new()
        .name("sendto".to_owned())
        .spawn(move || send(&addresses, duration, datagram_bytes))
        .context("starting the sending thread")?;
    while !sending.is_finished() {
        std::thread::sleep(Duration::from_millis(2));
        receivers.drain();
    }
    let work = sending
        .join()
        .map_err(|_| anyhow::anyhow!("the sending thread panicked"))??;
    receivers.drain();
    Ok(Floor::new(
        "sendto, 64 addresses",
        duration,
        work,
        receivers.received(),
    ))
}

fn send(addresses: &[SocketAddr], duration: Duration, datagram_bytes: usize) -> anyhow::Result<Work> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("binding the sending socket")?;
    let datagram = vec![7; datagram_bytes];
    let mut pace = Pace::per_second(ROUNDS_PER_SECOND);
    let mut work = Work::default();
    let before = cpu::of_this_thread()?;
    while pace.elapsed() < duration {
        for _ in 0..pace.due() {
            for address in addresses {
                work.packets_out += u64::from(socket.send_to(&datagram, address).is_ok());
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    work.cpu = cpu::of_this_thread()?.saturating_sub(before);
    Ok(work)
}
