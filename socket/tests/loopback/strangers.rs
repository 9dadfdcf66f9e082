use std::net::UdpSocket;

use wzp_lane::{Aead, LaneId, Sealer, Secret};
use wzp_socket::quic::EndpointSecret;

use crate::rig::{Certificate, PATIENCE, Relay, Session, client};

fn random(buf: &mut [u8]) {
    getrandom::fill(buf).unwrap();
}

fn stranger() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[tokio::test]
async fn junk_of_every_size_disturbs_nobody() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let mut session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    let stranger = stranger();
    let victims = [
        relay.address,
        ([127, 0, 0, 1], session.socket.local_addr().unwrap().port()).into(),
    ];
    let mut junk = vec![0; 65_507];
    for (i, len) in (0..1_600)
        .chain([2_047, 2_048, 2_049, 9_000, 65_506, 65_507])
        .enumerate()
    {
        random(&mut junk[..len.min(64)]);
        for to in victims {
            let _ = stranger.send_to(&junk[..len], to);
        }
        if i % 100 == 0 {
            session.echo_on_lane(b"still here").await;
        }
    }
    for i in 0..10_000 {
        let len = 1 + i % 300;
        random(&mut junk[..len]);
        for to in victims {
            let _ = stranger.send_to(&junk[..len], to);
        }
        if i % 500 == 0 {
            session.echo_on_lane(b"still here").await;
            session.echo_on_stream(b"still here").await.unwrap();
        }
    }
    let totals = relay.running.totals();
    assert!(totals.lane_unknown > 1_000 && totals.dropped_malformed > 1_000 && totals.dropped_oversized >= 4);
}

/// A packet of an unknown version that QUIC must answer, so that its answer shows what else was not answered.
fn version_question() -> [u8; 1_200] {
    let mut packet = [0; 1_200];
    packet[..6].copy_from_slice(&[0xc0, 0xba, 0xba, 0xba, 0xba, 8]);
    packet[14] = 8;
    packet
}

#[tokio::test]
async fn unknown_lane_ids_get_no_answer() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let stranger = stranger();
    for _ in 0..1_000 {
        let mut packet = [0; 120];
        random(&mut packet);
        packet[0] = packet[0] & 0x3f | 0x40;
        packet[1] |= 0x80;
        stranger.send_to(&packet, relay.address).unwrap();
    }
    stranger.send_to(&version_question(), relay.address).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = [0; 1_500];
        stranger.recv(&mut answer).unwrap();
        (answer, stranger)
    });
    let (answer, stranger) = answer.await.unwrap();
    assert_eq!(
        (answer[0] & 0x80, &answer[1..5]),
        (0x80, &[0; 4][..]),
        "the first answer is to the last packet"
    );
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 1_500]).is_err());
    assert_eq!(relay.running.totals().lane_unknown, 1_000);
}

/// From the address of a live session such packets may be resets, so QUIC sees some; it must not answer either.
#[tokio::test]
async fn stray_lane_packets_of_a_friend_are_limited_and_harmless() {
    let certificate = Certificate::new();
    let relay = Relay::start(0, 1, &certificate, &EndpointSecret::random());
    let mut session = Session::connect(&client(&certificate), &certificate, relay.address).await;
    let stray = Sealer::new(
        Secret::from([3; 32]),
        Aead::Aes128Gcm,
        LaneId::from_random(&[9; 8]).unwrap(),
    );
    for _ in 0..1_000 {
        session.socket.send(&stray, &session.to, &[1; 50]).unwrap();
    }
    session.echo_on_lane(b"still here").await;
    session.echo_on_stream(b"still here").await.unwrap();
    let totals = relay.running.totals();
    assert_eq!(totals.lane_unknown, 1_000);
    assert!(
        (1..=200).contains(&totals.reset_candidates),
        "{}",
        totals.reset_candidates
    );
    assert_eq!(
        session.socket.totals().lane_unknown + session.socket.totals().reset_candidates,
        0
    );
}
