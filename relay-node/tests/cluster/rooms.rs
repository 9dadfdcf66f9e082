//! Rooms on several relays.

use wzp_wire::{
    SenderId,
    signal::{Kind, proto},
};

use crate::{
    attach::{member, relay},
    client::Client,
    plane::Plane,
    server::Server,
};

const BOTH: &[&str] = &["a", "b"];

/// A mini header with a level, and something sealed.
pub(crate) fn packet(byte: u8) -> [u8; 40] {
    let mut packet = [byte; 40];
    packet[..4].copy_from_slice(&[0x81, 9 << 4, 0, byte]);
    packet
}

/// Enters with an announcement that says which member it is.
pub(crate) async fn join(client: &mut Client, sender: u16, standby: bool) -> Vec<u32> {
    let announcement = sender.to_be_bytes().to_vec();
    client
        .send(Kind::Join(proto::Join {
            request: 7,
            room: "room".to_owned(),
            announcement,
            echo: false,
            standby,
        }))
        .await;
    let joined = |kind| match kind {
        Kind::Joined(joined) => Some(joined.members.iter().map(|member| member.sender).collect()),
        Kind::Refused(refused) => panic!("{refused:?}"),
        _ => None,
    };
    client.wait_for("joined", joined).await
}

fn came(kind: Kind) -> Option<u32> {
    match kind {
        Kind::MemberJoined(joined) => joined.member.map(|member| member.sender),
        _ => None,
    }
}

pub(crate) async fn two(plane: &Plane) -> [Server; 2] {
    let servers = [relay(plane, "a").await, relay(plane, "b").await];
    plane.introduce(BOTH).await;
    plane.lease(BOTH, "room", 1, BOTH, 0).await;
    servers
}

pub(crate) async fn start(plane: &Plane, server: &Server, sender: u16) -> Client {
    let options = member(plane, "room", sender, 1, BOTH);
    Client::start_with(server.address, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_two_relays_hear_each_other_and_are_told_of_each_other() {
    let plane = Plane::start().await;
    let [a, b] = two(&plane).await;
    let mut one = start(&plane, &a, 1).await;
    join(&mut one, 1, false).await;
    let mut two = start(&plane, &b, 2).await;
    join(&mut two, 2, false).await;
    assert_eq!(one.wait_for("member joined", came).await, 2);
    let (first, second) = (SenderId::new(1).unwrap(), SenderId::new(2).unwrap());
    one.speak_to(first, &packet(1), &two).await;
    two.speak_to(second, &packet(2), &one).await;
    two.send(Kind::PeerMessage(proto::PeerMessage {
        sender: 1,
        payload: b"sealed".to_vec(),
    }))
    .await;
    let message = |kind| match kind {
        Kind::PeerMessage(message) => Some((message.sender, message.payload)),
        _ => None,
    };
    assert_eq!(one.wait_for("message", message).await, (2, b"sealed".to_vec()));
    // Somebody who comes to both relays is one member.
    let mut both = start(&plane, &a, 3).await;
    let mut known = join(&mut both, 3, false).await;
    known.sort_unstable();
    assert_eq!(known, [1, 2]);
    assert_eq!(one.wait_for("member joined", came).await, 3);
    let mut standby = start(&plane, &b, 3).await;
    join(&mut standby, 3, true).await;
    drop(both);
    drop(standby);
    two.connection.close(0_u32.into(), b"");
    let mut news = Vec::new();
    while news.len() < 2 {
        one.wait_for("news", |kind| match kind {
            Kind::MemberLeft(left) => {
                news.push(left.sender);
                Some(())
            }
            Kind::MemberJoined(joined) => panic!("{joined:?}"),
            _ => None,
        })
        .await;
    }
    news.sort_unstable();
    assert_eq!(news, [2, 3]);
    a.until("wzp_relay_sessions{role=\"peer\"}", |peers| peers >= 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_member_hears_nothing_until_it_carries_or_others_are_on_their_way() {
    let plane = Plane::start().await;
    let [a, b] = two(&plane).await;
    // Both hear the room through a, and wait at b.
    let (mut speaker, mut listener) = (start(&plane, &a, 1).await, start(&plane, &a, 2).await);
    join(&mut speaker, 1, false).await;
    join(&mut listener, 2, false).await;
    let (mut speaker_b, mut listener_b) = (start(&plane, &b, 1).await, start(&plane, &b, 2).await);
    join(&mut speaker_b, 1, true).await;
    join(&mut listener_b, 2, true).await;
    let id = SenderId::new(1).unwrap();
    speaker.speak_to(id, &packet(1), &listener).await;
    // What comes to b over the trunk is not for who only waits there; what comes from who is standby itself is.
    speaker_b.speak_to(id, &packet(2), &listener_b).await;
    let mut silent = tokio::time::interval(std::time::Duration::from_millis(10));
    for _ in 0..10 {
        silent.tick().await;
        speaker.send_media(id, &packet(3));
    }
    speaker_b.speak_to(id, &packet(4), &listener_b).await;
    listener_b.send(Kind::Carry(proto::Carry { here: true })).await;
    let heard = async {
        loop {
            let (_, heard) = listener_b.media().await;
            assert_ne!(
                heard,
                packet(3),
                "a standby member heard what came over the trunk"
            );
            if heard == packet(5) {
                return;
            }
        }
    };
    let speaking = async {
        loop {
            silent.tick().await;
            speaker.send_media(id, &packet(5));
        }
    };
    tokio::select! { () = heard => {}, () = speaking => {} }
    // Through both ways, also what is sent to the standby relay alone.
    speaker_b.speak_to(id, &packet(6), &listener).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_member_again_takes_the_place_of_its_old_connection() {
    let plane = Plane::start().await;
    let [a, _b] = two(&plane).await;
    let mut other = start(&plane, &a, 2).await;
    join(&mut other, 2, false).await;
    let mut old = start(&plane, &a, 1).await;
    join(&mut old, 1, false).await;
    assert_eq!(other.wait_for("member joined", came).await, 1);
    let mut new = start(&plane, &a, 1).await;
    join(&mut new, 1, false).await;
    let goodbye = |kind| match kind {
        Kind::Goodbye(goodbye) => Some(goodbye.reason()),
        _ => None,
    };
    let reason = old.wait_for("goodbye", goodbye).await;
    assert_eq!(reason, wzp_wire::signal::Reason::Replaced);
    new.speak_to(SenderId::new(1).unwrap(), &packet(1), &other).await;
    drop(new);
    let news = other.wait_for("news", |kind| match kind {
        Kind::MemberLeft(left) => Some(left.sender),
        Kind::MemberJoined(joined) => panic!("{joined:?}"),
        _ => None,
    });
    assert_eq!(news.await, 1);
}
