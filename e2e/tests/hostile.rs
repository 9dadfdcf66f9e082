//! Packets that nobody should take seriously.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};
use wzp_e2e::{
    beside::Beside,
    relay::Relay,
    tap::{Packet, Tap, Way, is_lane},
    until,
};
use wzp_testkit::Rng;

const SEED: u64 = 7;
const LARGEST: u64 = 65_507;
/// Stolen of a call in a few seconds: more than goes to the thief while its address is asked whether it is there.
const LOOT: usize = 2_500;
/// Sent at once, so that it is the relay that is tested and not the kernel's buffers.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_millis(5);
/// Growth that no pile of nonsense explains, with debug builds and allocators in mind.
const GROWTH_KIB: u64 = 64 * 1_024;

fn stranger() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// When to send the next batch.
fn pace() -> time::Interval {
    let mut pace = time::interval(PAUSE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Everything that came to a socket of ours.
fn answers(socket: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
    // An answer to something sent before, or a full buffer: either way the next one counts.
    let _ = socket.send_to(bytes, to);
}

/// Random bytes that look like a lane packet, like QUIC, or like nothing.
fn random_packet(rng: &mut Rng, n: usize) -> Vec<u8> {
    let most = if n.is_multiple_of(100) { LARGEST + 1 } else { 1_500 };
    let mut bytes = vec![0; rng.below(most) as usize];
    rng.fill(&mut bytes);
    if let [first, second, ..] = bytes.as_mut_slice() {
        match n % 4 {
            0 => (*first, *second) = (0x40 | *first & 0x3f, *second | 0x80),
            1 => (*first, *second) = (0x40 | *first & 0x3f, *second & 0x7f),
            2 => *first |= 0xc0,
            _ => {}
        }
    }
    // A version that is spoken here.
    if n % 8 == 2 && bytes.len() > 1_200 {
        bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
        bytes[5] = 8;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_packets_change_nothing() {
    let relay = Relay::start(&[]);
    let mut beside = Beside::start(&relay).await;
    let before = relay.process.resident_kib();
    let socket = stranger();
    let mut rng = Rng::new(SEED);
    send(&socket, relay.address, &[]);
    send(&socket, relay.address, &vec![0xff; LARGEST as usize]);
    let (mut sent, mut pace) = (0, pace());
    for n in 0..10_000 {
        let packet = random_packet(&mut rng, n);
        sent += packet.len();
        send(&socket, relay.address, &packet);
        if n % BATCH == 0 {
            pace.tick().await;
        }
    }
    for reason in ["lane_unknown", "malformed", "oversized"] {
        let sample = format!("wzp_relay_packets_dropped_total{{reason=\"{reason}\"}}");
        relay.until(&sample, |count| count > 0.0).await;
    }
    let answered: usize = answers(&socket).iter().map(Vec::len).sum();
    assert!(
        answered < sent,
        "{answered} bytes in answer to {sent}: an amplifier"
    );
    beside.is_undisturbed().await;
    let after = relay.process.resident_kib();
    assert!(after < before + GROWTH_KIB, "from {before} to {after} KiB");
    assert_eq!(relay.metric("wzp_relay_sessions{role=\"member\"}"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_packets_at_a_client_change_nothing() {
    let relay = Relay::start(&[]);
    let (tap, mut call) = tapped(&relay).await;
    let socket = stranger();
    let client = SocketAddr::from(([127, 0, 0, 1], tap.client().port()));
    let (mut rng, mut pace) = (Rng::new(SEED), pace());
    for n in 0..4_000 {
        let packet = random_packet(&mut rng, n);
        // One in the relay's name, one in nobody's.
        tap.inject(Way::Down, &packet).await;
        send(&socket, client, &packet);
        if n % BATCH == 0 {
            pace.tick().await;
        }
    }
    call.is_undisturbed().await;
}

/// A call of which one side can be listened to.
async fn tapped(relay: &Relay) -> (Tap, Beside) {
    let tap = Tap::start(relay.address).await;
    let [mut first, second] = Beside::guests("tea");
    first.via = Some(tap.address);
    let members = [first.join(relay).await, second.join(relay).await];
    (tap, Beside::of(members).await)
}

/// Lane packets that went each way, some of each.
async fn captured(tap: &Tap) -> Vec<Packet> {
    let mut lanes: Vec<Packet> = Vec::new();
    tap.take();
    until("lane packets", || {
        lanes.extend(tap.take().into_iter().filter(Packet::is_lane));
        let of = |way| lanes.iter().filter(|packet| packet.way == way).count();
        (of(Way::Up) > 50 && of(Way::Down) > 50).then_some(())
    })
    .await;
    lanes
}

/// The packet itself, cut off, and with a bit turned.
fn variants(packet: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut variants = vec![packet.to_vec()];
    for len in [0, 1, 2, 9, 11, 20, 28, packet.len() - 1] {
        variants.push(packet[..len.min(packet.len())].to_vec());
    }
    for _ in 0..8 {
        let mut turned = packet.to_vec();
        let bit = rng.below(packet.len() as u64 * 8) as usize;
        turned[bit / 8] ^= 1 << (bit % 8);
        variants.push(turned);
    }
    let mut longer = packet.to_vec();
    longer.extend([0; 8]);
    variants.push(longer);
    variants
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_lane_packets_are_taken_from_nobody() {
    let relay = Relay::start(&[]);
    let (tap, mut call) = tapped(&relay).await;
    let before = relay.process.resident_kib();
    let lanes = captured(&tap).await;
    let socket = stranger();
    let (mut rng, mut pace) = (Rng::new(SEED), pace());
    let mut copies = 0;
    for packet in &lanes {
        let spoofed_to = match packet.way {
            Way::Up => relay.address,
            Way::Down => SocketAddr::from(([127, 0, 0, 1], tap.client().port())),
        };
        for bytes in variants(&packet.bytes, &mut rng) {
            tap.inject(packet.way, &bytes).await;
            send(&socket, spoofed_to, &bytes);
            copies += 1;
        }
        pace.tick().await;
    }
    let up = lanes.iter().filter(|packet| packet.way == Way::Up).count() as f64;
    let dropped = |reason| format!("wzp_relay_packets_dropped_total{{reason=\"{reason}\"}}");
    // Each was repeated from both addresses.
    relay.until(&dropped("stale"), |count| count >= 2.0 * up).await;
    relay.until(&dropped("auth"), |count| count >= 2.0 * up).await;
    assert!(copies > 1_000);
    assert_eq!(answers(&socket), Vec::<Vec<u8>>::new(), "copies are answered");
    assert_eq!(relay.metric("wzp_relay_path_changes_total{kind=\"rebind\"}"), 0.0);
    call.is_undisturbed().await;
    let (sent, heard) = (
        call.member(0).call.stats().sent,
        call.member(1).call.stats().received,
    );
    assert!(heard <= sent + 50, "{heard} heard of {sent} sent");
    let after = relay.process.resident_kib();
    assert!(after < before + GROWTH_KIB, "from {before} to {after} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_of_fresh_packets_moves_nothing_and_gains_little() {
    let relay = Relay::start(&[]);
    let (tap, mut call) = tapped(&relay).await;
    let thief = stranger();
    let stolen = Arc::new(AtomicUsize::new(0));
    let (accomplice, to, count) = (thief.try_clone().unwrap(), relay.address, Arc::clone(&stolen));
    let mut seen = 0;
    // Every tenth packet arrives by another way, the only copy of it.
    tap.pass_if(move |way, bytes| {
        let lane = way == Way::Up && is_lane(bytes);
        seen += usize::from(lane);
        if !lane || seen % 10 != 0 {
            return true;
        }
        send(&accomplice, to, bytes);
        count.fetch_add(bytes.len(), Relaxed);
        false
    });
    let stolen = until("packets to be stolen", || {
        Some(stolen.load(Relaxed)).filter(|&bytes| bytes > LOOT)
    })
    .await;
    tap.pass_if(|_, _| true);
    let got: usize = answers(&thief).iter().map(Vec::len).sum();
    // It is asked whether it is there, and gets media for as long as that is not known.
    assert!(got <= 3 * stolen, "{got} bytes for {stolen}");
    assert_eq!(relay.metric("wzp_relay_path_changes_total{kind=\"rebind\"}"), 0.0);
    call.is_undisturbed().await;
}
