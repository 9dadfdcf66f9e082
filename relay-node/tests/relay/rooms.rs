//! Members of a room hear each other, whatever carries them.

use wzp_wire::{
    SenderId,
    signal::{Kind, proto},
};

use crate::{
    client::{Carrier, Client, Options, soon},
    server::Server,
};

/// A mini header with the given level, and something sealed.
fn packet(level: u8, byte: u8) -> [u8; 40] {
    let mut packet = [byte; 40];
    packet[..4].copy_from_slice(&[0x81, level << 4, 0, byte]);
    packet
}

fn on(carrier: Carrier) -> Options {
    Options {
        carrier,
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_hear_each_other_over_lanes_and_quic_datagrams() {
    let relay = Server::start(&[]).await;
    for (first, second) in [
        (Carrier::Lane, Carrier::Lane),
        (Carrier::Quic, Carrier::Lane),
        (Carrier::Lane, Carrier::Quic),
        (Carrier::Quic, Carrier::Quic),
    ] {
        let mut a = Client::start_with(relay.address, on(first)).await.unwrap();
        let mut b = Client::start_with(relay.address, on(second)).await.unwrap();
        assert_eq!(a.lane.is_some(), first == Carrier::Lane);
        let (a_id, others) = a.join("room").await;
        assert!(others.is_empty());
        let (b_id, others) = b.join("room").await;
        assert_eq!(others, [a_id]);
        let joined = |kind| match kind {
            Kind::MemberJoined(proto::MemberJoined { member: Some(member) }) => {
                SenderId::from_field(member.sender)
            }
            _ => None,
        };
        assert_eq!(a.wait_for("member joined", joined).await, b_id);
        a.speak_to(a_id, &packet(9, 1), &b).await;
        b.speak_to(b_id, &packet(9, 2), &a).await;
        drop(b);
        let left = |kind| match kind {
            Kind::MemberLeft(left) => SenderId::from_field(left.sender),
            _ => None,
        };
        assert_eq!(a.wait_for("member left", left).await, b_id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_a_relay_with_a_server_id_hear_each_other() {
    let relay = Server::start(&["--id-server", "7b00", "--id-length", "20"]).await;
    let mut a = Client::start_with(relay.address, on(Carrier::Lane))
        .await
        .unwrap();
    let mut b = Client::start_with(relay.address, on(Carrier::Quic))
        .await
        .unwrap();
    let lane_id = a.lane.as_ref().unwrap().sealer.id();
    assert_eq!((lane_id.len(), &lane_id.as_slice()[1..3]), (20, &[0x7b, 0][..]));
    let (a_id, _) = a.join("room").await;
    let (b_id, _) = b.join("room").await;
    a.speak_to(a_id, &packet(9, 1), &b).await;
    b.speak_to(b_id, &packet(9, 2), &a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_do_not_hear_each_other_and_only_echo_members_hear_themselves() {
    let relay = Server::start(&[]).await;
    let mut echo = Client::start(relay.address).await;
    let mut other = Client::start(relay.address).await;
    let (me, _) = echo.join_as("echo", true).await.unwrap();
    let (elsewhere, _) = other.join("elsewhere").await;
    echo.speak_to(me, &packet(5, 7), &echo).await;
    // Heard by nobody: its room has no other member.
    let nobody = "wzp_relay_fanout_bucket{le=\"0.0\"}";
    soon("a packet for nobody", async {
        while relay.metric(nobody).await < 1.0 {
            other.send_media(elsewhere, &packet(5, 8));
        }
    })
    .await;
    let ping = other.ping(false);
    let pong = other.pong(&ping).await;
    assert_eq!(pong.observed, other.socket.local_addr().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_reach_the_member_they_are_for() {
    let relay = Server::start(&[]).await;
    let mut a = Client::start(relay.address).await;
    let mut b = Client::start(relay.address).await;
    let (a_id, _) = a.join("room").await;
    let (b_id, _) = b.join("room").await;
    a.send(Kind::PeerMessage(proto::PeerMessage {
        sender: b_id.get().into(),
        payload: b"sealed".to_vec(),
    }))
    .await;
    let message = |kind| match kind {
        Kind::PeerMessage(message) => Some(message),
        _ => None,
    };
    let got = b.wait_for("peer message", message).await;
    assert_eq!(
        (got.sender, got.payload.as_slice()),
        (a_id.get().into(), &b"sealed"[..])
    );
}
