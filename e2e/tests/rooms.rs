//! Members of a room hear each other, whatever carries them.

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
};
use wzp_sdk::{Carrier, CarrierWhy, Event, Preference};

const TONES: [f32; 3] = [440.0, 700.0, 1_100.0];

async fn three(relay: &Relay, carriers: [Preference; 3]) -> Vec<Member> {
    let mut members = Vec::new();
    for (hertz, carrier) in TONES.into_iter().zip(carriers) {
        let guest = Guest {
            carrier,
            ..Guest::saying(hertz)
        };
        members.push(guest.join(relay).await);
    }
    members
}

async fn hear_each_other(members: &[Member]) {
    for (at, member) in members.iter().enumerate() {
        for (_, hertz) in TONES.into_iter().enumerate().filter(|&(of, _)| of != at) {
            member.hears(hertz).await;
        }
        assert!(!member.ears.hear(TONES[at]), "member {at} hears itself");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_hear_each_other_over_lanes() {
    let relay = Relay::start(&[]);
    let mut members = three(&relay, [Preference::Auto; 3]).await;
    hear_each_other(&members).await;
    for member in &mut members {
        member
            .stats(PATIENCE, "an answered lane", |stats| {
                (stats.carrier, stats.carrier_why) == (Carrier::Lane, CarrierWhy::Answered)
            })
            .await;
    }
    assert_eq!(relay.metric("wzp_relay_members"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_members_hear_each_other_over_quic_datagrams() {
    let relay = Relay::start(&[]);
    let mut members = three(&relay, [Preference::Quic; 3]).await;
    hear_each_other(&members).await;
    for member in &mut members {
        let why = member.carrier(PATIENCE, Carrier::QuicDatagram).await;
        assert_eq!(why, CarrierWhy::Forced);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_and_quic_datagrams_meet_in_one_room() {
    let relay = Relay::start(&[]);
    let carriers = [Preference::Quic, Preference::Auto, Preference::Quic];
    hear_each_other(&three(&relay, carriers).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_do_not_hear_each_other() {
    let relay = Relay::start(&[]);
    let here = Guest::saying(440.0).join(&relay).await;
    let listener = Guest::default().join(&relay).await;
    let elsewhere = Guest {
        room: "elsewhere",
        ..Guest::default()
    };
    let elsewhere = elsewhere.join(&relay).await;
    listener.hears(440.0).await;
    assert_eq!(elsewhere.call.stats().received, 0);
    assert_eq!(here.call.members_at_join(), 0);
    assert_eq!(elsewhere.call.members_at_join(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_heard_no_more_and_may_come_back() {
    let relay = Relay::start(&[]);
    let mut stays = Guest::saying(440.0).join(&relay).await;
    let goes = Guest::saying(700.0).join(&relay).await;
    stays.hears(700.0).await;
    goes.hears(440.0).await;
    let fingerprint = goes.client.identity().fingerprint();
    let Member { client, call, .. } = goes;
    let last = call.leave().await;
    assert!(last.sent > 0 && last.received > 0);
    let left = stays
        .event(PATIENCE, "who left", |event| match event {
            Event::MemberLeft { fingerprint, .. } => Some(*fingerprint),
            _ => None,
        })
        .await;
    assert_eq!(left, fingerprint);
    stays.hears_no_more(700.0).await;
    let back = Guest::saying(1_100.0).join_with(client).await.unwrap();
    stays.hears(1_100.0).await;
    back.hears(440.0).await;
}
