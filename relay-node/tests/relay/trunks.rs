//! Whom an upstream relay takes over a trunk, and what becomes of those it does not.

use wzp_identity::{GrantRole, RoomScope};
use wzp_relay::Config;
use wzp_relay_core::limits::Rate;
use wzp_wire::{
    SenderId,
    signal::{
        Kind, Reason, Role,
        proto::{self, NoticeKind},
    },
};

use crate::{
    client::{Client, Options, Refused, grant, identity},
    server::Server,
};

const SECRET: &str = "a secret of 24 characters";
const RELAYS_SECRET: &str = "one that only relays know";
const DAY: u64 = 24 * 3_600;

fn relay() -> Options {
    Options {
        role: Role::Relay,
        ..Options::default()
    }
}

fn unix_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_not_told_to_takes_no_relays() {
    for (args, secret) in [(&[][..], None), (&["--secret", SECRET][..], Some(SECRET))] {
        let no_relays = |config: &mut Config| config.takes_relays = false;
        let up = Server::start_changed("127.0.0.1:0", args, no_relays).await;
        let options = Options { secret, ..relay() };
        let refused = Client::start_with(up.address, options).await.err().unwrap();
        assert_eq!(refused, Refused::Message(Reason::Role));
        let member = Options {
            secret,
            ..Options::default()
        };
        Client::start_with(up.address, member).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_needs_a_grant_for_every_room() {
    let up = Server::start(&["--secret", SECRET]).await;
    let options = Options {
        secret: Some(SECRET),
        grant_room: RoomScope::Exactly("room".to_owned()),
        ..relay()
    };
    let refused = Client::start_with(up.address, options).await.err().unwrap();
    assert_eq!(refused, Refused::Message(Reason::GrantRoom));
    let missing = Client::start_with(up.address, relay()).await.err().unwrap();
    assert_eq!(missing, Refused::Message(Reason::GrantMissing));
}

/// What a relay with this secret would show, if its grant were for this role.
fn with_grant(secret: &'static str, role: GrantRole) -> Options {
    Options {
        secret: Some(secret),
        grant_role: Some(role),
        ..relay()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grant_of_a_member_opens_no_trunk_and_that_of_a_relay_no_room() {
    let up = Server::start(&["--secret", SECRET]).await;
    let as_member = |role| Options {
        role: Role::Member,
        ..with_grant(SECRET, role)
    };
    for (options, taken) in [
        (with_grant(SECRET, GrantRole::Member), false),
        (with_grant(SECRET, GrantRole::Relay), true),
        (as_member(GrantRole::Relay), false),
        (as_member(GrantRole::Member), true),
    ] {
        let answer = Client::start_with(up.address, options).await.err();
        let expected = (!taken).then_some(Refused::Message(Reason::Role));
        assert_eq!(answer, expected);
    }
    assert_eq!(up.metric("wzp_relay_refusals_total{reason=\"role\"}").await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_secret_of_their_own_relays_and_members_are_kept_apart() {
    let secrets = ["--secret", SECRET, "--forward-secret", RELAYS_SECRET];
    let up = Server::start(&secrets).await;
    // Whoever knows a secret may write any role into a grant.
    let refused = [
        with_grant(SECRET, GrantRole::Relay),
        Options {
            role: Role::Member,
            ..with_grant(RELAYS_SECRET, GrantRole::Member)
        },
    ];
    for options in refused {
        let refused = Client::start_with(up.address, options).await.err();
        assert_eq!(refused, Some(Refused::Message(Reason::GrantInvalid)));
    }
    let address = up.address.to_string();
    let to_up = ["--forward", &address];
    let _without = Server::start(&[&to_up[..], &secrets[..2]].concat()).await;
    up.until("wzp_relay_refusals_total{reason=\"grant_invalid\"}", |n| n >= 3.0)
        .await;
    let down = Server::start(&[&to_up[..], &secrets[..]].concat()).await;
    down.until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    let member = || Options {
        secret: Some(SECRET),
        ..Options::default()
    };
    let mut above = Client::start_with(up.address, member()).await.unwrap();
    above.join("room").await;
    let mut below = Client::start_with(down.address, member()).await.unwrap();
    below.join("room").await;
    up.until("wzp_relay_members", |members| members == 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_open_to_members_may_be_closed_to_relays() {
    let up = Server::start(&["--open", "--forward-secret", RELAYS_SECRET]).await;
    Client::start(up.address).await.join("room").await;
    let refused = Client::start_with(up.address, relay()).await.err();
    assert_eq!(refused, Some(Refused::Message(Reason::GrantMissing)));
    let known = with_grant(RELAYS_SECRET, GrantRole::Relay);
    Client::start_with(up.address, known).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_grant_has_expired_since_it_entered_comes_back_with_its_relay() {
    let up = Server::start(&["--secret", SECRET]).await;
    let options = Options {
        secret: Some(SECRET),
        ..relay()
    };
    let mut trunk = Client::start_with(up.address, options).await.unwrap();
    let now = unix_now();
    let member = Options {
        identity: 252,
        grant_expires: now - 3_600,
        ..Options::default()
    };
    let grant = grant(SECRET, &identity(252), &member);
    for (handle, (entered, taken)) in (1..).zip([
        (now - 3_700, true),
        (now - 3_000, false),
        (0, false),
        (now + DAY, false),
        (now - 3_700, true),
    ]) {
        trunk
            .send(Kind::TrunkJoin(proto::TrunkJoin {
                handle,
                room: "room".to_owned(),
                announcement: handle.to_be_bytes().to_vec(),
                identity_key: identity(252).public().to_bytes().into(),
                grant: grant.clone(),
                entered,
                ..proto::TrunkJoin::default()
            }))
            .await;
        let answer = |kind| match kind {
            Kind::TrunkJoined(joined) => Some((joined.handle, Ok(()))),
            Kind::TrunkRefused(refused) => Some((refused.handle, Err(refused.reason()))),
            _ => None,
        };
        let expected = if taken { Ok(()) } else { Err(Reason::GrantExpired) };
        assert_eq!(
            trunk.wait_for("an answer", answer).await,
            (handle, expected),
            "{entered}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_the_upstream_has_no_time_for_is_told_and_brought_again() {
    let slow = |config: &mut Config| config.limits.trunk_joins = Rate::per_minute(40, 1);
    let up = Server::start_changed("127.0.0.1:0", &[], slow).await;
    let down = Server::start(&["--forward", &up.address.to_string()]).await;
    down.until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    let mut above = Client::start(up.address).await;
    above.join("room").await;
    let mut first = Client::start(down.address).await;
    let mut second = Client::start(down.address).await;
    first.join("room").await;
    second.join("room").await;
    let notice = |kind| match kind {
        Kind::Notice(notice) => Some((notice.kind(), notice.text)),
        _ => None,
    };
    let (kind, text) = second.wait_for("that it waits", notice).await;
    assert_eq!(kind, NoticeKind::Unspecified);
    assert!(text.contains("busy"), "{text}");
    let (kind, text) = second.wait_for("that it does not", notice).await;
    assert_eq!(kind, NoticeKind::Unspecified);
    assert!(text.contains("now"), "{text}");
    up.until("wzp_relay_members", |members| members == 3.0).await;
    assert_eq!(down.metric("wzp_relay_upstream_waiting").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_left_while_the_upstream_knew_nobody_of_ours_in_the_room_is_told_of_when_it_does() {
    let slow = |config: &mut Config| config.limits.trunk_joins = Rate::per_minute(80, 1);
    let up = Server::start_changed("127.0.0.1:0", &[], slow).await;
    let down = Server::start(&["--forward", &up.address.to_string()]).await;
    down.until("wzp_relay_upstream_connected", |connected| connected == 1.0)
        .await;
    let mut above = Client::start(up.address).await;
    let (above_id, _) = above.join("room").await;
    let mut first = Client::start(down.address).await;
    let (first_id, _) = first.join("room").await;
    let came = |kind| matches!(kind, Kind::MemberJoined(_)).then_some(());
    first.wait_for("the one above", came).await;
    let mut waits = Client::start(down.address).await;
    let (_, others) = waits.join("room").await;
    assert_eq!(others.len(), 2);
    let left = |who: SenderId| {
        move |kind| match kind {
            Kind::MemberLeft(left) => (left.sender == u32::from(who.get())).then_some(()),
            _ => None,
        }
    };
    drop(first);
    above.wait_for("the first to leave", left(first_id)).await;
    drop(above);
    waits.wait_for("the one above to leave", left(above_id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_is_told_of_others_members_only() {
    let up = Server::start(&[]).await;
    let mut above = Client::start(up.address).await;
    let (above_id, _) = above.join("room").await;
    let relay = || Options {
        identity: 249,
        ..relay()
    };
    let join = |handle: u32| {
        Kind::TrunkJoin(proto::TrunkJoin {
            handle,
            room: "room".to_owned(),
            announcement: handle.to_be_bytes().to_vec(),
            identity_key: identity(248).public().to_bytes().into(),
            ..proto::TrunkJoin::default()
        })
    };
    let answer = |kind| match kind {
        Kind::TrunkJoined(joined) => {
            let members = joined.members.iter().map(|member| member.sender);
            Some((joined.whole, members.collect::<Vec<_>>()))
        }
        _ => None,
    };
    let all = (true, vec![u32::from(above_id.get())]);
    let mut trunk = Client::start_with(up.address, relay()).await.unwrap();
    trunk.send(join(1)).await;
    assert_eq!(trunk.wait_for("the first answer", answer).await, all);
    trunk.send(join(2)).await;
    assert_eq!(trunk.wait_for("the second", answer).await, (false, vec![]));
    trunk.connection.close(18_u32.into(), b"lost");
    let mut trunk = Client::start_with(up.address, relay()).await.unwrap();
    trunk.send(join(2)).await;
    assert_eq!(trunk.wait_for("the third", answer).await, all);
}
