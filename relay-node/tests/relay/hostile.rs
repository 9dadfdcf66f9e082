//! Bad input: nobody else notices, nothing grows, counters move.

use std::{net::UdpSocket, time::Duration};

use quinn::ConnectionError;
use wzp_relay::Config;
use wzp_relay_core::limits::Rate;
use wzp_wire::{
    SenderId,
    signal::{self, Kind, proto},
};

use crate::{
    client::{Carrier, Client, Options, soon},
    server::Server,
};

fn packet(byte: u8) -> [u8; 40] {
    let mut packet = [byte; 40];
    packet[..4].copy_from_slice(&[0x81, 0x90, 0, byte]);
    packet
}

/// Two members who hear each other, before and after something bad.
struct Pair {
    a: Client,
    b: Client,
    a_id: SenderId,
}

impl Pair {
    async fn start(relay: &Server) -> Self {
        let mut a = Client::start(relay.address).await;
        let mut b = Client::start(relay.address).await;
        let (a_id, _) = a.join("pair").await;
        b.join("pair").await;
        Self { a, b, a_id }
    }

    async fn talks(&self, byte: u8) {
        self.a.speak_to(self.a_id, &packet(byte), &self.b).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_packets_change_nothing() {
    let relay = Server::start(&[]).await;
    let pair = Pair::start(&relay).await;
    pair.talks(1).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut bytes = [0; 1_500];
    for n in 0..10_000usize {
        getrandom::fill(&mut bytes).unwrap();
        // Every length, and every first byte that a demultiplexer could mistake.
        let len = (n * 7) % 1_400;
        bytes[0] = [bytes[0], 0x40 | bytes[0], 0xc0 | bytes[0]][n % 3];
        socket.send_to(&bytes[..len], relay.address).unwrap();
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    pair.talks(2).await;
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"lane_unknown\"}", |n| {
            n > 100.0
        })
        .await;
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"malformed\"}", |n| {
            n > 100.0
        })
        .await;
    assert_eq!(relay.metric("wzp_relay_sessions{role=\"member\"}").await, 2.0);
    assert_eq!(relay.get("/livez").await, (200, "ok\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_floods_is_held_to_its_rate_and_others_are_heard() {
    let relay = Server::start(&["--packet-rate", "100"]).await;
    let pair = Pair::start(&relay).await;
    let mut flooder = Client::start(relay.address).await;
    let (me, _) = flooder.join("flood").await;
    for n in 0..5_000u32 {
        flooder.send_media(me, &packet(n as u8));
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    pair.talks(3).await;
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"rate\"}", |n| {
            n > 1_000.0
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_that_lie_are_dropped_by_reason() {
    let relay = Server::start(&[]).await;
    let pair = Pair::start(&relay).await;
    pair.talks(1).await;
    let other = SenderId::new(pair.a_id.get() ^ 1).unwrap();
    pair.a.send_media(other, &packet(4));
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"sender\"}", |n| n >= 1.0)
        .await;
    pair.a.send_datagram(&[9, 9, 9]);
    pair.a.send_datagram(&[1, 0]);
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"decode\"}", |n| n >= 2.0)
        .await;
    let lonely = Client::start(relay.address).await;
    lonely.send_media(other, &packet(5));
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"no_room\"}", |n| {
            n >= 1.0
        })
        .await;
    // A member is no trunk.
    pair.a.send_datagram(&[2, 1, 0, 1, 0, 2, 0x81, 0x90]);
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"no_route\"}", |n| {
            n >= 1.0
        })
        .await;
    pair.talks(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_and_spoilt_lane_packets_are_counted_and_dropped() {
    let relay = Server::start(&[]).await;
    let pair = Pair::start(&relay).await;
    pair.talks(1).await;
    let lane = pair.a.lane.as_ref().unwrap();
    let mut sealed = [0; 200];
    let at = lane.sealer.header_len();
    sealed[at..at + 3].copy_from_slice(&[1, 0, 1]);
    sealed[at + 3..at + 43].copy_from_slice(&packet(7));
    let len = lane.sealer.seal(&mut sealed, 43, false).unwrap();
    // From a spoofed source: neither a replay nor a spoilt packet moves anything.
    let spoofer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        spoofer.send_to(&sealed[..len], relay.address).unwrap();
    }
    // One that was never sent, spoilt on its way.
    sealed[at..at + 43].fill(1);
    let len = lane.sealer.seal(&mut sealed, 43, false).unwrap();
    sealed[len - 1] ^= 1;
    spoofer.send_to(&sealed[..len], relay.address).unwrap();
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"stale\"}", |n| n == 2.0)
        .await;
    relay
        .until("wzp_relay_packets_dropped_total{reason=\"auth\"}", |n| n == 1.0)
        .await;
    pair.talks(8).await;
    assert_eq!(
        relay
            .metric("wzp_relay_path_changes_total{kind=\"rebind\"}")
            .await,
        0.0
    );
}

fn message(to: SenderId) -> Kind {
    Kind::PeerMessage(proto::PeerMessage {
        sender: to.get().into(),
        payload: vec![7; 4_000],
    })
}

/// More than a queue, its windows and quinn's buffers hold together.
async fn flood(talker: &mut Client, deaf: SenderId) {
    for _ in 0..3_000 {
        talker.send(message(deaf)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_flooded_by_another_member_loses_messages_and_stays() {
    let relay = Server::start(&["--message-rate", "100000"]).await;
    let mut deaf = Client::start(relay.address).await;
    let mut talker = Client::start(relay.address).await;
    let mut third = Client::start(relay.address).await;
    let (deaf_id, _) = deaf.join("room").await;
    talker.join("room").await;
    let (third_id, _) = third.join("room").await;
    flood(&mut talker, deaf_id).await;
    talker.send(message(third_id)).await;
    let delivered = |kind| matches!(kind, Kind::PeerMessage(_)).then_some(());
    third.wait_for("the message behind them", delivered).await;
    relay
        .until("wzp_relay_peer_messages_dropped_total", |lost| lost > 100.0)
        .await;
    assert_eq!(
        relay
            .metric("wzp_relay_session_ends_total{reason=\"slow_reader\"}")
            .await,
        0.0
    );
    // Once it reads again, it is served as before.
    deaf.send(Kind::Leave(proto::Leave {})).await;
    deaf.join("another room").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_reads_is_cut_off_and_nobody_waits_for_it() {
    let relay = Server::start(&["--message-rate", "100000"]).await;
    let pair = Pair::start(&relay).await;
    let mut deaf = Client::start(relay.address).await;
    // Each is answered: more than its queue, its windows and quinn's buffers hold together.
    let mut leaves = Vec::new();
    for _ in 0..1_000 {
        signal::encode(&signal::message(Kind::Leave(proto::Leave {})), &mut leaves).unwrap();
    }
    for _ in 0..100 {
        if deaf.send.write_all(&leaves).await.is_err() {
            break;
        }
    }
    pair.talks(1).await;
    // The close itself may be lost in the flood: whoever sends again is told again.
    let error = soon("being cut off", async {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        loop {
            every.tick().await;
            if let Some(error) = deaf.connection.close_reason() {
                return error;
            }
            deaf.send(Kind::Keepalive(proto::Keepalive {})).await;
        }
    })
    .await;
    assert!(!matches!(error, ConnectionError::TimedOut), "{error}");
    relay
        .until("wzp_relay_session_ends_total{reason=\"slow_reader\"}", |n| {
            n == 1.0
        })
        .await;
    let refused = "wzp_relay_refusals_total{reason=\"overloaded\"}";
    assert_eq!(relay.metric(refused).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_takes_nothing_of_what_waits_is_cut_off_in_time_or_when_memory_is_short() {
    for (why, patience_ms, queues) in [("stalled", 500, 256 << 20), ("memory", 60_000, 48 << 10)] {
        let change = |config: &mut Config| {
            config.limits.patience = Duration::from_millis(patience_ms);
            config.limits.queues = queues;
        };
        let relay = Server::start_changed("127.0.0.1:0", &["--message-rate", "100000"], change).await;
        let pair = Pair::start(&relay).await;
        let mut deaf = Client::start(relay.address).await;
        let mut talker = Client::start(relay.address).await;
        let (deaf_id, _) = deaf.join("room").await;
        talker.join("room").await;
        flood(&mut talker, deaf_id).await;
        let cut = format!("wzp_relay_slow_readers_total{{why=\"{why}\"}}");
        relay.until(&cut, |count| count == 1.0).await;
        relay.until("wzp_relay_members", |members| members == 3.0).await;
        let used = "wzp_relay_load_ratio{resource=\"queues\"}";
        relay.until(used, |used| used == 0.0).await;
        pair.talks(1).await;
        drop(deaf);
    }
}

fn join(announcement: u32) -> Kind {
    let mut bytes = vec![7; 256];
    bytes[..4].copy_from_slice(&announcement.to_be_bytes());
    Kind::Join(proto::Join {
        request: 1,
        room: "room".to_owned(),
        announcement: bytes,
        echo: false,
        standby: false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_cut_off_because_others_come_and_go() {
    let args = ["--message-rate", "100000", "--join-rate", "60000"];
    let no_limit = |config: &mut Config| config.rooms.joins = Rate::new(1_000_000, 1_000_000);
    let relay = Server::start_changed("127.0.0.1:0", &args, no_limit).await;
    let mut deaf = Client::start(relay.address).await;
    deaf.join("room").await;
    let mut restless = Client::start(relay.address).await;
    // More than a queue, its windows and quinn's buffers would hold together.
    for n in 0..12_000 {
        restless.send(join(n)).await;
        restless.send(Kind::Leave(proto::Leave {})).await;
    }
    restless.send(join(12_000)).await;
    let messages = "wzp_relay_signal_messages_total";
    relay.until(messages, |messages| messages >= 24_002.0).await;
    for why in ["full", "stalled", "memory"] {
        let cut = format!("wzp_relay_slow_readers_total{{why=\"{why}\"}}");
        assert_eq!(relay.metric(&cut).await, 0.0);
    }
    let used = "wzp_relay_load_ratio{resource=\"queues\"}";
    relay.until(used, |used| used < 1e-4).await;
    // Whoever is there in the end is told of.
    let came = |kind| match kind {
        Kind::MemberJoined(joined) => (joined.member == Some(member(&joined, 12_000))).then_some(()),
        _ => None,
    };
    deaf.wait_for("the last to come", came).await;
}

/// The member of `joined`, had it the announcement of that [`join`].
fn member(joined: &proto::MemberJoined, announcement: u32) -> proto::Member {
    let Kind::Join(join) = join(announcement) else {
        unreachable!()
    };
    proto::Member {
        sender: joined.member.as_ref().map_or(0, |member| member.sender),
        announcement: join.announcement,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_come_into_one_room_a_second_and_others_are_told_to_wait() {
    let few = |config: &mut Config| config.rooms.joins = Rate::per_minute(1, 3);
    let relay = Server::start_changed("127.0.0.1:0", &[], few).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        let mut member = Client::start(relay.address).await;
        member.join("room").await;
        members.push(member);
    }
    let mut late = Client::start(relay.address).await;
    late.send(join(1)).await;
    let refused = |kind| match kind {
        Kind::Refused(refused) => Some((refused.reason(), refused.retry_after_ms)),
        _ => None,
    };
    let (reason, wait) = late.wait_for("refusal", refused).await;
    assert_eq!(reason, signal::Reason::TooManyJoins);
    assert!((30_000..=60_000).contains(&wait), "{wait}");
    late.join("another room").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_signalling_stream_ends_that_session_only() {
    let relay = Server::start(&[]).await;
    let pair = Pair::start(&relay).await;
    let mut bad = Client::start(relay.address).await;
    bad.send.write_all(&[0xff; 64]).await.unwrap();
    let goodbye = |kind| match kind {
        Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    assert_eq!(bad.wait_for("goodbye", goodbye).await, signal::Reason::Malformed);
    pair.talks(9).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_receiver_on_quic_datagrams_costs_the_others_nothing() {
    let relay = Server::start(&[]).await;
    let pair = Pair::start(&relay).await;
    let quic = Options {
        carrier: Carrier::Quic,
        ..Options::default()
    };
    let mut dead = Client::start_with(relay.address, quic).await.unwrap();
    dead.join("pair").await;
    // It stays connected as far as the relay knows, and never answers again.
    dead.socket.endpoint().set_server_config(None);
    let Client { connection, .. } = dead;
    std::mem::forget(connection);
    for byte in 0..50 {
        pair.talks(byte).await;
    }
    tokio::time::timeout(Duration::from_secs(1), pair.talks(100))
        .await
        .unwrap();
}
