//! Forwarding without crypto, with the batches that the relay uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use wzp_socket::recv::RecvBatch;
use wzp_socket::send::SendBatch;
use wzp_socket::udp::Udp;
use wzp_socket::{Address, Counters};

use super::{Floor, Work};
use crate::cpu;
use crate::load::{Pace, Rooms, Shape};

const BUFFER_BYTES: usize = 8 << 20;

pub(super) fn run(
    scenario: &'static str,
    shape: Shape,
    duration: Duration,
    datagram_bytes: usize,
) -> anyhow::Result<Floor> {
    let udp = Udp::bind_alone(([127, 0, 0, 1], 0).into(), BUFFER_BYTES).context("binding the forwarder")?;
    let to = udp.local_addr().context("asking for the forwarder's port")?;
    let mut rooms = Rooms::bind(shape)?;
    let stop = Arc::new(AtomicBool::new(false));
    let forwarder = Forwarder {
        udp: Arc::new(udp),
        shape,
        members: rooms.addresses().to_vec(),
        stop: Arc::clone(&stop),
    };
    let forwarding = std::thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || forwarder.run())
        .context("starting the forwarding thread")?;
    let mut packet = vec![7; datagram_bytes];
    let mut pace = Pace::per_second(shape.packets_per_second());
    let mut turn = 0;
    while pace.elapsed() < duration {
        for _ in 0..pace.due() {
            rooms.talk(turn, to, &mut packet)?;
            turn += 1;
        }
        rooms.drain();
        std::thread::sleep(Duration::from_millis(1));
    }
    // What is still under way is done within a wake-up of the forwarder.
    std::thread::sleep(Duration::from_millis(100));
    stop.store(true, Ordering::Relaxed);
    let work = forwarding
        .join()
        .map_err(|_| anyhow::anyhow!("the forwarding thread panicked"))??;
    rooms.drain();
    Ok(Floor::new(scenario, duration, work, rooms.received()))
}

struct Forwarder {
    udp: Arc<Udp>,
    shape: Shape,
    members: Vec<Address>,
    stop: Arc<AtomicBool>,
}

impl Forwarder {
    fn run(self) -> anyhow::Result<Work> {
        let counters = Arc::new(Counters::default());
        let mut batch = RecvBatch::new();
        let mut out = SendBatch::new(Arc::clone(&self.udp), Arc::clone(&counters));
        let before = cpu::of_this_thread()?;
        while !self.stop.load(Ordering::Relaxed) {
            self.udp.wait(Duration::from_millis(50));
            batch.recv(&self.udp, &counters).context("receiving")?;
            for datagram in batch.datagrams() {
                self.forward(datagram.bytes, &mut out);
            }
            out.flush();
        }
        Ok(Work {
            packets_in: counters.received.value(),
            packets_out: counters.sent.value(),
            cpu: cpu::of_this_thread()?.saturating_sub(before),
        })
    }

    /// To everyone in the sender's room but the sender.
    fn forward(&self, packet: &[u8], out: &mut SendBatch) {
        let Some(number) = packet.first_chunk().map(|head| u32::from_be_bytes(*head)) else {
            return;
        };
        let size = self.shape.members as usize;
        let sender = number as usize;
        let room = self
            .members
            .chunks_exact(size)
            .nth(sender / size)
            .unwrap_or_default();
        for (member, to) in room.iter().enumerate() {
            if member != sender % size {
                out.push(to, |buf| {
                    buf.get_mut(..packet.len())?.copy_from_slice(packet);
                    Some(packet.len())
                });
            }
        }
    }
}
