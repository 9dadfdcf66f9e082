//! The forwarder without crypto, as its own process: members on stdin, its address on stdout.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use wzp_socket::recv::RecvBatch;
use wzp_socket::send::SendBatch;
use wzp_socket::udp::Udp;
use wzp_socket::{Address, Counters};

const BUFFER_BYTES: usize = 8 << 20;

/// Forwards until killed. A packet begins with its sender's number; it goes to everybody else in the sender's room.
///
/// # Errors
/// When stdin makes no sense or the socket fails.
pub(super) fn serve() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading members")?;
    let (size, members) = parse(&text).context("parsing members")?;
    let udp = Arc::new(Udp::bind_alone(([127, 0, 0, 1], 0).into(), BUFFER_BYTES).context("binding")?);
    println!("address {}", udp.local_addr().context("asking for the port")?);
    let counters = Arc::new(Counters::default());
    let mut batch = RecvBatch::new();
    let mut out = SendBatch::new(Arc::clone(&udp), Arc::clone(&counters));
    loop {
        udp.wait(Duration::from_secs(60));
        batch.recv(&udp, &counters).context("receiving")?;
        for datagram in batch.datagrams() {
            forward(size, &members, datagram.bytes, &mut out);
        }
        out.flush();
    }
}

fn parse(text: &str) -> Option<(usize, Vec<Address>)> {
    let mut lines = text.lines();
    let size = lines.next()?.parse().ok().filter(|size| *size > 0)?;
    let members = lines
        .map(|line| line.parse().ok().map(|to: SocketAddr| Address::new(to, None)))
        .collect::<Option<_>>()?;
    Some((size, members))
}

fn forward(size: usize, members: &[Address], packet: &[u8], out: &mut SendBatch) {
    let Some(number) = packet.first_chunk().map(|head| u32::from_be_bytes(*head)) else {
        return;
    };
    let sender = number as usize;
    let room = members.chunks_exact(size).nth(sender / size).unwrap_or_default();
    for (member, to) in room.iter().enumerate() {
        if member != sender % size {
            out.push(to, |buf| {
                buf.get_mut(..packet.len())?.copy_from_slice(packet);
                Some(packet.len())
            });
        }
    }
}
