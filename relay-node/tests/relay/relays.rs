//! Relays with relays: forward mode and probes.

use wzp_lane::Aead;
use wzp_wire::{
    SenderId,
    signal::{
        Kind, Reason, Role,
        proto::{self, NoticeKind},
    },
};

use crate::{
    client::{Carrier, Client, Options, Refused},
    server::Server,
};

const SECRET: &str = "a secret of 24 characters";

fn packet(byte: u8) -> [u8; 40] {
    let mut packet = [byte; 40];
    packet[..4].copy_from_slice(&[0x81, 0x90, 0, byte]);
    packet
}

async fn forwarding(upstream: &Server, more: &[&str]) -> Server {
    let address = upstream.address.to_string();
    let mut args = vec!["--forward", &address];
    args.extend(more);
    let relay = Server::start(&args).await;
    relay
        .until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    relay
}

async fn joined(client: &mut Client) -> SenderId {
    let joined = |kind| match kind {
        Kind::MemberJoined(proto::MemberJoined { member: Some(member) }) => {
            SenderId::from_field(member.sender)
        }
        _ => None,
    };
    client.wait_for("member joined", joined).await
}

async fn left(client: &mut Client) -> SenderId {
    let left = |kind| match kind {
        Kind::MemberLeft(left) => SenderId::from_field(left.sender),
        _ => None,
    };
    client.wait_for("member left", left).await
}

/// A member on either side of a trunk, who know of each other by the same ids.
async fn across(up: &Server, down: &Server) -> [(Client, SenderId); 2] {
    let mut above = Client::start(up.address).await;
    let mut below = Client::start(down.address).await;
    let (above_id, _) = above.join("room").await;
    let (below_id, _) = below.join("room").await;
    assert_eq!(joined(&mut above).await, below_id);
    assert_eq!(joined(&mut below).await, above_id);
    [(above, above_id), (below, below_id)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_both_sides_of_a_trunk_hear_each_other() {
    // Ids of different lengths, as between a relay at an address of its own and one behind a load balancer.
    let up = Server::start(&[]).await;
    let down = forwarding(&up, &["--id-server", "0x0123456789abcdef"]).await;
    let [(mut above, above_id), (mut below, below_id)] = across(&up, &down).await;
    below.send_media(below_id, &packet(1));
    speak(&below, below_id, below_id, 2, &above).await;
    speak(&above, above_id, above_id, 3, &below).await;
    // Nothing comes back to where it was said, on either side.
    let mut second = Client::start(down.address).await;
    let (second_id, others) = second.join("room").await;
    assert_eq!(others.len(), 2);
    assert_eq!(joined(&mut below).await, second_id);
    speak(&below, below_id, below_id, 4, &second).await;
    assert!(
        down.metric("wzp_relay_packets_total{dir=\"out\",leg=\"mesh\"}")
            .await
            >= 1.0
    );
    assert!(
        up.metric("wzp_relay_packets_total{dir=\"in\",leg=\"mesh\"}")
            .await
            >= 1.0
    );
    below
        .send(Kind::PeerMessage(proto::PeerMessage {
            sender: above_id.get().into(),
            payload: b"up".to_vec(),
        }))
        .await;
    let message = |kind| match kind {
        Kind::PeerMessage(message) => Some((message.sender, message.payload)),
        _ => None,
    };
    assert_eq!(
        above.wait_for("message", message).await,
        (below_id.get().into(), b"up".to_vec())
    );
    above
        .send(Kind::PeerMessage(proto::PeerMessage {
            sender: below_id.get().into(),
            payload: b"down".to_vec(),
        }))
        .await;
    assert_eq!(
        below.wait_for("message", message).await,
        (above_id.get().into(), b"down".to_vec())
    );
    drop(above);
    assert_eq!(left(&mut below).await, above_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_to_a_relay_without_aes_goes_over_a_lane() {
    let without_aes: &[Aead] = &[Aead::ChaCha20Poly1305];
    let up = Server::start_changed("127.0.0.1:0", &[], |config| config.aeads = without_aes).await;
    let down = forwarding(&up, &[]).await;
    for relay in [&up, &down] {
        relay.until("wzp_relay_lanes", |lanes| lanes == 1.0).await;
    }
    let [(above, above_id), (below, below_id)] = across(&up, &down).await;
    speak(&below, below_id, below_id, 2, &above).await;
    speak(&above, above_id, above_id, 3, &below).await;
    let failed = "wzp_relay_packets_dropped_total{reason=\"auth\"}";
    assert_eq!((up.metric(failed).await, down.metric(failed).await), (0.0, 0.0));
}

async fn speak(from: &Client, me: SenderId, heard_as: SenderId, byte: u8, listener: &Client) {
    assert_eq!(me, heard_as);
    from.speak_to(me, &packet(byte), listener).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_downstream_relays_meet_in_their_upstream() {
    let up = Server::start(&["--secret", SECRET]).await;
    let one = forwarding(&up, &["--secret", SECRET]).await;
    let two = forwarding(&up, &["--secret", SECRET]).await;
    let member = || Options {
        secret: Some(SECRET),
        ..Options::default()
    };
    let mut a = Client::start_with(one.address, member()).await.unwrap();
    let mut b = Client::start_with(
        two.address,
        Options {
            carrier: Carrier::Quic,
            ..member()
        },
    )
    .await
    .unwrap();
    let (a_id, _) = a.join("room").await;
    let (b_id, _) = b.join("room").await;
    assert_eq!(joined(&mut a).await, b_id);
    assert_eq!(joined(&mut b).await, a_id);
    a.speak_to(a_id, &packet(1), &b).await;
    b.speak_to(b_id, &packet(2), &a).await;
    drop(a);
    assert_eq!(left(&mut b).await, a_id);
    up.until("wzp_relay_members", |members| members == 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_upstream_is_noticed_local_members_go_on_and_it_is_tried_again() {
    let up = Server::start(&[]).await;
    let address = up.address.to_string();
    let down = forwarding(&up, &[]).await;
    let mut above = Client::start(up.address).await;
    let mut below = Client::start(down.address).await;
    let mut beside = Client::start(down.address).await;
    let (above_id, _) = above.join("room").await;
    let (below_id, _) = below.join("room").await;
    assert_eq!(joined(&mut below).await, above_id);
    beside.join("room").await;
    up.stop().await;
    let notice = |kind| match kind {
        Kind::Notice(notice) => Some(notice.kind()),
        _ => None,
    };
    assert_eq!(below.wait_for("notice", notice).await, NoticeKind::UpstreamLost);
    below.speak_to(below_id, &packet(1), &beside).await;
    let _again = Server::start_at(&address, &[]).await;
    assert_eq!(
        below.wait_for("notice", notice).await,
        NoticeKind::UpstreamRestored
    );
    let mut above = Client::start(address.parse().unwrap()).await;
    let (above_id, others) = above.join("room").await;
    assert_eq!(others.len(), 2);
    above.speak_to(above_id, &packet(2), &below).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_the_upstream_refuses_is_told_goodbye() {
    let up = Server::start(&["--max-members", "1"]).await;
    let down = forwarding(&up, &[]).await;
    let mut above = Client::start(up.address).await;
    above.join("room").await;
    let mut below = Client::start(down.address).await;
    below.join("room").await;
    let goodbye = |kind| match kind {
        Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    assert_eq!(below.wait_for("goodbye", goodbye).await, Reason::RoomFull);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarding_relay_has_no_downstream() {
    let up = Server::start(&[]).await;
    let down = forwarding(&up, &[]).await;
    let relay = Options {
        role: Role::Relay,
        ..Options::default()
    };
    let refused = Client::start_with(down.address, relay).await.err().unwrap();
    assert_eq!(refused, Refused::Message(Reason::Role));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_measure_and_say_when_nobody_answers() {
    let target = Server::start(&["--secret", SECRET]).await;
    let probe = format!("near={}", target.address);
    let relay = Server::start(&["--probe", &probe, "--probe", "nobody=127.0.0.1:1"]).await;
    relay
        .until("wzp_probe_reachable{target=\"near\"}", |up| up == 1.0)
        .await;
    relay
        .until("wzp_probe_rtt_seconds{target=\"near\"}", |rtt| {
            rtt > 0.0 && rtt < 0.5
        })
        .await;
    assert_eq!(relay.metric("wzp_probe_loss_ratio{target=\"near\"}").await, 0.0);
    assert_eq!(target.metric("wzp_relay_sessions{role=\"probe\"}").await, 1.0);
    assert_eq!(target.metric("wzp_relay_lanes").await, 1.0);
    target.stop().await;
    relay
        .until("wzp_probe_reachable{target=\"near\"}", |up| up == 0.0)
        .await;
    let (_, text) = relay.get("/metrics").await;
    assert!(!text.contains("wzp_probe_rtt_seconds{"), "{text}");
    assert!(!text.contains("wzp_probe_jitter_seconds{"), "{text}");
    // Neither is connected: what is not sent is lost too.
    relay
        .until("wzp_probe_loss_ratio{target=\"near\"}", |loss| loss > 0.5)
        .await;
    assert_eq!(relay.metric("wzp_probe_loss_ratio{target=\"nobody\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_has_never_answered_is_told_of_from_the_start() {
    let relay = Server::start(&["--probe", "nobody=127.0.0.1:1"]).await;
    let (_, text) = relay.get("/metrics").await;
    assert!(
        text.contains("\nwzp_probe_reachable{target=\"nobody\"} 0\n"),
        "{text}"
    );
}

/// What a downstream relay sends for a member of its own.
fn trunk_join(handle: u32) -> Kind {
    Kind::TrunkJoin(proto::TrunkJoin {
        handle,
        room: "room".to_owned(),
        announcement: b"of the far member".to_vec(),
        identity_key: crate::client::identity(250).public().to_bytes().into(),
        ..proto::TrunkJoin::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_be_a_relay_is_no_way_around_the_limits() {
    let up = Server::start(&["--packet-rate", "10"]).await;
    let relay = Options {
        role: Role::Relay,
        ..Options::default()
    };
    let mut trunk = Client::start_with(up.address, relay).await.unwrap();
    // 640 a second.
    let mut datagram = vec![2, 1, 0, 3, 0, 40];
    datagram.extend(packet(1));
    for n in 0..5_000 {
        trunk.send_datagram(&datagram);
        if n % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    up.until("wzp_relay_packets_dropped_total{reason=\"rate\"}", |n| n > 500.0)
        .await;
    for _ in 0..1_500 {
        trunk.send(trunk_join(3)).await;
    }
    let over_this_trunk = |kind| match kind {
        Kind::TrunkRefused(refused) if refused.text.contains("over this trunk") => Some(refused.reason()),
        _ => None,
    };
    assert_eq!(
        trunk.wait_for("too many joins", over_this_trunk).await,
        Reason::TooManyJoins
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_behind_a_trunk_that_breaks_stay_who_they_are() {
    let up = Server::start(&[]).await;
    let mut above = Client::start(up.address).await;
    above.join("room").await;
    let relay = || Options {
        role: Role::Relay,
        identity: 251,
        ..Options::default()
    };
    let mut sender = None;
    for handle in [3, 4] {
        let mut trunk = Client::start_with(up.address, relay()).await.unwrap();
        trunk.send(trunk_join(handle)).await;
        let joined = |kind| match kind {
            Kind::TrunkJoined(joined) => {
                Some((SenderId::from_field(joined.sender).unwrap(), joined.members.len()))
            }
            _ => None,
        };
        let (far, members) = trunk.wait_for("trunk joined", joined).await;
        assert_eq!(members, 1);
        assert_eq!(*sender.get_or_insert(far), far);
        let mut datagram = vec![2, 1, 0, handle as u8, 0, 40];
        datagram.extend(packet(handle as u8));
        crate::client::soon("media out of the trunk", async {
            let mut every = tokio::time::interval(std::time::Duration::from_millis(20));
            loop {
                tokio::select! {
                    _ = every.tick() => trunk.send_datagram(&datagram),
                    (from, heard) = above.media() => if heard == packet(handle as u8) {
                        return assert_eq!(from, far);
                    },
                }
            }
        })
        .await;
        trunk.connection.close(18_u32.into(), b"lost");
    }
    // Told once of the far member, and not that it had gone.
    assert_eq!(Some(joined(&mut above).await), sender);
    let mut new = Client::start(up.address).await;
    let (new, _) = new.join("room").await;
    let news = |kind| matches!(&kind, Kind::MemberJoined(_) | Kind::MemberLeft(_)).then_some(kind);
    let Kind::MemberJoined(proto::MemberJoined { member: Some(next) }) = above.wait_for("news", news).await
    else {
        panic!("the far member was said to have left");
    };
    assert_eq!(next.sender, u32::from(new.get()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_enters_under_the_announcement_of_somebody_present() {
    let up = Server::start(&[]).await;
    let down = forwarding(&up, &[]).await;
    let join = |room: &str| {
        Kind::Join(proto::Join {
            request: 9,
            room: room.to_owned(),
            announcement: b"of the far member".to_vec(),
            echo: false,
            standby: false,
        })
    };
    let refused = |kind| match kind {
        Kind::Refused(refused) => Some((refused.request, refused.reason(), refused.retry_after_ms)),
        Kind::Joined(_) => panic!("it came in"),
        _ => None,
    };
    let came_in = |kind| matches!(kind, Kind::Joined(_)).then_some(());
    let mut beside = Client::start(up.address).await;
    beside.join("room").await;
    let mut first = Client::start(down.address).await;
    first.send(join("room")).await;
    first.wait_for("the first", came_in).await;
    joined(&mut beside).await;
    for address in [down.address, up.address] {
        let mut copy = Client::start(address).await;
        copy.send(join("room")).await;
        assert_eq!(
            copy.wait_for("refusal", refused).await,
            (9, Reason::AnnouncementInUse, 0)
        );
        // It is for this room only that the announcement is taken.
        copy.send(join("another room")).await;
        copy.wait_for("another room", came_in).await;
        copy.send(Kind::Leave(proto::Leave {})).await;
    }
    let count = "wzp_relay_refusals_total{reason=\"announcement_in_use\"}";
    assert_eq!((up.metric(count).await, down.metric(count).await), (1.0, 1.0));
    // Over a trunk of another relay too.
    let relay = Options {
        role: Role::Relay,
        ..Options::default()
    };
    let mut trunk = Client::start_with(up.address, relay).await.unwrap();
    trunk.send(trunk_join(3)).await;
    let refused = |kind| match kind {
        Kind::TrunkRefused(refused) => Some(refused.reason()),
        Kind::TrunkJoined(_) => panic!("it came in"),
        _ => None,
    };
    assert_eq!(
        trunk.wait_for("refusal", refused).await,
        Reason::AnnouncementInUse
    );
}
