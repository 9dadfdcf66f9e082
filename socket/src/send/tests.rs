use super::*;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

fn local() -> (UdpSocket, Address) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = Address::new(socket.local_addr().unwrap(), None);
    (socket, address)
}

fn push(batch: &mut SendBatch, to: &Address, byte: u8) {
    assert!(batch.push(to, |buf| {
        buf[0] = byte;
        Some(1)
    }));
}

#[test]
fn one_dead_member_does_not_silence_the_others() {
    let (receiver, to) = local();
    let udp = Arc::new(Udp::bind_any(1 << 20).unwrap());
    let counters = Arc::new(Counters::default());
    let mut batch = SendBatch::new(udp, Arc::clone(&counters));
    // Sending to port 0 is refused at once, as an unreachable network would be.
    let dead = Address::new(SocketAddr::from(([127, 0, 0, 1], 0)), None);
    for i in 0..64 {
        push(
            &mut batch,
            if [0, 31, 32, 63].contains(&i) { &dead } else { &to },
            i,
        );
    }
    let mut heard = Vec::new();
    for _ in 0..60 {
        let mut byte = [0];
        receiver.recv(&mut byte).unwrap();
        heard.push(byte[0]);
    }
    assert_eq!(
        heard,
        (0..64)
            .filter(|i| ![0, 31, 32, 63].contains(i))
            .collect::<Vec<u8>>()
    );
    assert_eq!((counters.sent.value(), counters.send_failed.value()), (60, 4));
}

#[test]
fn a_dropped_batch_is_sent() {
    let (receiver, to) = local();
    let udp = Arc::new(Udp::bind_any(1 << 20).unwrap());
    push(&mut SendBatch::new(udp, Arc::default()), &to, 9);
    let mut byte = [0];
    receiver.recv(&mut byte).unwrap();
    assert_eq!(byte, [9]);
}

#[test]
fn pongs_leave_on_a_lane_that_refuses_media() {
    let (receiver, to) = local();
    let udp = Arc::new(Udp::bind_any(1 << 16).unwrap());
    let counters = Arc::new(Counters::default());
    let mut batch = SendBatch::new(udp, Arc::clone(&counters));
    let id = wzp_lane::LaneId::from_random(&[1, 2]).unwrap();
    let secret = wzp_lane::Secret::from([1; 32]);
    let nowhere = Address::new(SocketAddr::from(([127, 0, 0, 1], 0)), None);
    let lane = Outgoing::new(Sealer::new(secret, wzp_lane::Aead::Aes128Gcm, id), nowhere);
    let mut buf = [0; 32];
    while lane.sealer.seal(&mut buf, 2, false).is_ok() {}
    assert!(!batch.seal_to(&lane, &to, |_| Some(2)));
    assert!(batch.seal_pong(&lane, &to, 7, b"pong"));
    assert!(!batch.seal_pong(&lane, &to, 7, b"pong"), "one PONG for one PING");
    batch.flush();
    let len = receiver.recv(&mut [0; 64]).unwrap();
    assert_eq!(len, b"pong".len() + lane.sealer.overhead());
    assert_eq!((counters.sent.value(), counters.seal_refused.value()), (1, 2));
}

#[test]
fn leaves_from_the_address_it_is_told() {
    let (receiver, to) = local();
    for udp in [
        Udp::bind_any(1 << 16).unwrap(),
        Udp::bind(([0, 0, 0, 0], 0).into(), crate::udp::Sharing::Alone, 1 << 16).unwrap(),
    ] {
        let from = Address::new(to.remote(), Some("127.0.0.9".parse().unwrap()));
        udp.send(&from, Extras { ttl: Some(5), ecn: 2 }, b"x").unwrap();
        let (_, seen) = receiver.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(seen.ip(), from.local().unwrap());
    }
}

#[test]
fn hop_limit_reaches_ipv4_peers_of_a_dual_stack_socket() {
    let (receiver, to) = local();
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe one `c_int`.
    unsafe {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&receiver);
        libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_RECVTTL, (&raw const on).cast(), 4);
    }
    let udp = Udp::bind_any(1 << 16).unwrap();
    udp.send(&to, Extras { ttl: Some(3), ecn: 0 }, b"x").unwrap();
    assert_eq!(received_ttl(&receiver), Some(3));
    udp.send(&to, Extras::default(), b"x").unwrap();
    assert_eq!(received_ttl(&receiver), Some(64));
}

fn received_ttl(receiver: &UdpSocket) -> Option<libc::c_int> {
    let (mut byte, mut control) = ([0u8; 8], Control::EMPTY);
    let mut iovec = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: byte.len(),
    };
    // SAFETY: all zeroes is a valid `msghdr`, every pointer set is to memory of this frame, and the data of an
    // IP_TTL message is one `c_int`.
    unsafe {
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &raw mut iovec;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr();
        message.msg_controllen = Control::LEN as _;
        let fd = std::os::fd::AsRawFd::as_raw_fd(receiver);
        assert_eq!(libc::recvmsg(fd, &raw mut message, 0), 1);
        let header = libc::CMSG_FIRSTHDR(&raw const message).as_ref()?;
        assert_eq!(
            (header.cmsg_level, header.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_TTL)
        );
        Some(libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned())
    }
}
