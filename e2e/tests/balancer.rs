//! Relays behind a load balancer that routes by connection id, as QUIC-LB says.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use wzp_e2e::{
    PATIENCE,
    member::{Guest, Member},
    relay::Relay,
    tap::{Tap, Way},
};
use wzp_sdk::{CarrierWhy, Preference};

const SERVER: [u8; 8] = [0xa0, 0xb1, 0xc2, 0xd3, 0xe4, 0xf5, 0x06, 0x17];
const ARGS: [&str; 4] = ["--id-server", "0xa0b1c2d3e4f50617", "--id-config", "2"];
/// In a packet: first byte, first byte of the id, server id.
const MARK: usize = 1 + 1 + SERVER.len();

/// Passes on what a load balancer can route: long headers by address, short ones by the server id alone. Counts those
/// of lanes, and drops them if told so.
fn route_by_id(tap: &Tap, lanes_pass: bool) -> Arc<AtomicUsize> {
    let lanes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lanes);
    tap.pass_if(move |way, bytes| {
        if way == Way::Down || bytes.first().is_some_and(|first| first & 0x80 != 0) {
            return true;
        }
        let ours =
            bytes.get(1).is_some_and(|first| first >> 5 == 2) && bytes.get(2..MARK) == Some(&SERVER[..]);
        let lane = ours && bytes.get(MARK).is_some_and(|byte| byte & 0x80 != 0);
        counted.fetch_add(usize::from(lane), Ordering::Relaxed);
        ours && (lanes_pass || !lane)
    });
    lanes
}

async fn join_through(tap: &Tap, relay: &Relay, carrier: Preference) -> Member {
    let guest = Guest {
        via: Some(tap.address),
        carrier,
        ..Guest::saying(440.0)
    };
    guest.join(relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_packet_of_a_call_names_its_relay_and_so_does_what_comes_from_a_new_address() {
    for carrier in [Preference::Auto, Preference::Quic] {
        let relay = Relay::start(&ARGS);
        let mut tap = Tap::start(relay.address).await;
        let lanes = route_by_id(&tap, true);
        let member = join_through(&tap, &relay, carrier).await;
        let other = Guest::saying(700.0).join(&relay).await;
        member.hears(700.0).await;
        other.hears(440.0).await;
        tap.rebind().await;
        let received = member.call.stats().received;
        member
            .stats(PATIENCE, "media at the new address", |stats| {
                stats.received > received + 100
            })
            .await;
        other.hears(440.0).await;
        assert_eq!(lanes.load(Ordering::Relaxed) > 100, carrier == Preference::Auto);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_lanes_do_not_get_through_quic_datagrams_do() {
    let relay = Relay::start(&ARGS);
    let other = Guest::saying(700.0).join(&relay).await;
    let tap = Tap::start(relay.address).await;
    let lanes = route_by_id(&tap, false);
    let mut member = join_through(&tap, &relay, Preference::Auto).await;
    let why = member.carrier(PATIENCE, wzp_sdk::Carrier::QuicDatagram).await;
    assert_eq!(why, CarrierWhy::NeverAnswered);
    member.hears(700.0).await;
    other.hears(440.0).await;
    assert!(lanes.load(Ordering::Relaxed) > 0);
}
