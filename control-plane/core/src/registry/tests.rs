//! Who is listed and who is lost, in a small world whose relays answer what they are asked.

use proptest::prelude::*;

use super::*;
use crate::{
    list,
    relay::{Address, AddressReport, AddressSource},
    testing::{at, hello, id, located, ms, probe},
};

const START: u64 = 1_000_000;

/// A registry, relays that answer its orders, and what it said.
struct Scene {
    registry: Registry,
    now: u64,
    /// Relays that hear nothing and say nothing.
    dead: Vec<&'static str>,
    /// Relays that we do not hear, and that do not hear us; others reach them.
    mute: Vec<&'static str>,
    lost: Vec<(RelayId, WhyLost)>,
    generations: Vec<u64>,
}

fn stream(name: &str) -> StreamId {
    StreamId(name.bytes().map(u64::from).sum())
}

fn socket(name: &str) -> Address {
    let socket = ([192, 0, 2, name.as_bytes()[0]], 4433).into();
    Address {
        socket,
        source: AddressSource::Explicit,
    }
}

fn hello_of(name: &str, boot: u8) -> Hello {
    Hello {
        addresses: vec![socket(name)],
        ..hello(name, boot)
    }
}

impl Scene {
    fn new() -> Self {
        let registry = Registry::new(Config::default(), START);
        Self {
            registry,
            now: 0,
            dead: Vec::new(),
            mute: Vec::new(),
            lost: Vec::new(),
            generations: Vec::new(),
        }
    }

    fn of(names: &[&'static str]) -> Self {
        let mut scene = Self::new();
        for name in names {
            scene.attach(name);
        }
        scene
    }

    fn attach(&mut self, name: &'static str) {
        let welcomed = self
            .registry
            .handle_hello(at(self.now), 0, stream(name), hello_of(name, 1));
        assert!(welcomed.is_ok(), "{welcomed:?}");
        self.registry.handle_synced(at(self.now), stream(name));
        self.settle();
    }

    /// Carries out what is ordered, by whoever can.
    fn settle(&mut self) {
        while let Some(output) = self.registry.poll_output() {
            match output {
                Output::CheckAddress {
                    by, relay, addresses, ..
                } => self.answer(&by, &relay, &addresses),
                Output::RelayLost { relay, why, .. } => self.lost.push((relay, why)),
                Output::ListChanged { generation } => self.generations.push(generation),
                Output::StateChanged { .. } => {}
            }
        }
    }

    fn is_dead(&self, relay: &RelayId) -> bool {
        self.dead.iter().any(|name| *name == relay.as_str())
    }

    fn is_heard(&self, relay: &RelayId) -> bool {
        !self.is_dead(relay) && !self.mute.iter().any(|name| *name == relay.as_str())
    }

    fn answer(&mut self, by: &Checker, relay: &RelayId, addresses: &[std::net::SocketAddr]) {
        if matches!(by, Checker::Relay(by) if !self.is_heard(by)) {
            return;
        }
        for address in addresses {
            let outcome = if self.is_dead(relay) {
                Err("timed out".to_owned())
            } else {
                Ok(())
            };
            let report = AddressReport {
                relay: relay.clone(),
                address: *address,
                outcome,
            };
            self.registry.handle_address_report(at(self.now), by, &report);
        }
    }

    /// Lets time pass; whoever is not dead sends heartbeats.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += 500;
            if self.now.is_multiple_of(2_000) {
                let names: Vec<_> = self
                    .registry
                    .relays()
                    .map(|relay| relay.hello.relay.clone())
                    .collect();
                let alive = names.iter().filter(|name| self.is_heard(name));
                for name in alive.cloned().collect::<Vec<_>>() {
                    let now = at(self.now);
                    self.registry
                        .handle_heartbeat(now, 0, stream(name.as_str()), Heartbeat::default());
                }
            }
            self.registry.handle_timeout(at(self.now));
            self.settle();
        }
    }

    fn probe(&mut self, by: &str, to: &str, reached: bool) {
        let probe = Probe {
            unreachable: !reached,
            ..probe(to, 10)
        };
        self.registry
            .handle_probe_report(at(self.now), stream(by), &[probe]);
        self.settle();
    }

    fn state(&self, name: &str) -> State {
        self.registry.relay(&id(name)).unwrap().state.clone()
    }

    fn offer(&self, name: &str) -> Option<Offer> {
        self.registry.relay(&id(name)).unwrap().offer()
    }
}

#[test]
fn a_relay_is_listed_once_somebody_reached_each_address() {
    let mut scene = Scene::new();
    let two = [socket("a"), socket("b")];
    let hello = Hello {
        addresses: two.to_vec(),
        ..hello("a", 1)
    };
    scene.registry.handle_hello(at(0), 0, stream("a"), hello).unwrap();
    assert_eq!(scene.state("a"), State::Joining);
    scene.registry.handle_synced(at(0), stream("a"));
    assert_eq!(scene.state("a"), State::Checking { why_not: None });
    let orders: Vec<_> = std::iter::from_fn(|| scene.registry.poll_output()).collect();
    assert!(orders.iter().any(|output| matches!(
        output,
        Output::CheckAddress { by: Checker::Control, addresses, .. } if addresses.len() == 2
    )));
    for (nth, address) in two.into_iter().enumerate() {
        assert_eq!(scene.offer("a"), None);
        let report = AddressReport {
            relay: id("a"),
            address: address.socket,
            outcome: Ok(()),
        };
        scene
            .registry
            .handle_address_report(at(nth as u64), &Checker::Control, &report);
    }
    assert_eq!(scene.offer("a"), Some(Offer::Active));
    scene.settle();
    assert_eq!(scene.generations, [START + 1]);
    assert_eq!(list::entries(&scene.registry).count(), 1);
}

#[test]
fn another_relay_checks_when_there_is_one_and_says_why_not() {
    let mut scene = Scene::of(&["a"]);
    scene.dead.push("b");
    scene.attach("b");
    let State::Checking {
        why_not: Some(why_not),
    } = scene.state("b")
    else {
        panic!("{:?}", scene.state("b"))
    };
    assert_eq!(why_not, "192.0.2.98:4433: timed out");
    scene.dead.clear();
    scene.pass(3);
    assert_eq!(scene.offer("b"), Some(Offer::Active), "it is tried again");
}

#[test]
fn a_checker_that_says_nothing_is_replaced_by_another_one() {
    let mut scene = Scene::of(&["a", "c"]);
    scene.dead.push("a");
    scene.attach("b");
    scene.pass(2);
    assert_eq!(scene.offer("b"), Some(Offer::Active));
}

#[test]
fn a_duplicate_is_refused_as_long_as_the_first_one_lives() {
    let mut scene = Scene::of(&["a", "b"]);
    let other = |scene: &mut Scene| {
        scene
            .registry
            .handle_hello(at(scene.now), 0, StreamId(1), hello_of("a", 2))
    };
    let refused = other(&mut scene).unwrap_err();
    assert!(matches!(refused, Refused::DuplicateId { .. }), "{refused}");
    assert_eq!(scene.offer("a"), Some(Offer::Active));
    scene.registry.handle_stream_lost(at(scene.now), stream("a"));
    assert!(!other(&mut scene).unwrap().known);
    scene.registry.handle_synced(at(scene.now), StreamId(1));
    scene.settle();
    assert_eq!(scene.lost, [(id("a"), WhyLost::Restarted)]);
    assert_eq!(scene.offer("a"), Some(Offer::Active));
    // What comes late out of the old stream means nothing.
    let beat = Heartbeat {
        draining: true,
        ..Heartbeat::default()
    };
    scene
        .registry
        .handle_heartbeat(at(scene.now), 0, stream("a"), beat);
    assert_eq!(scene.offer("a"), Some(Offer::Active));
}

#[test]
fn versions_and_clocks_that_do_not_fit_are_refused_and_small_offsets_noted() {
    let mut registry = Registry::new(
        Config {
            protocol: 2..=3,
            ..Config::default()
        },
        START,
    );
    let mut say = |protocol, unix_ms| {
        let hello = Hello {
            protocol,
            unix_ms,
            ..hello("a", 1)
        };
        registry.handle_hello(at(0), 10_000_000, stream("a"), hello)
    };
    assert!(matches!(say(1..=1, 0), Err(Refused::Protocol { .. })));
    assert_eq!(say(1..=2, 0).map(|welcomed| welcomed.protocol), Ok(2));
    assert_eq!(say(3..=9, 0).map(|welcomed| welcomed.protocol), Ok(3));
    assert_eq!(say(2..=2, 9_000_000), Err(Refused::Clock { off_ms: -1_000_000 }));
    assert!(say(2..=2, 10_003_000).is_ok());
    assert_eq!(registry.relay(&id("a")).unwrap().clock_off_ms, Some(3_000));
}

#[test]
fn a_broken_stream_alone_moves_nothing() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.registry.handle_stream_lost(at(scene.now), stream("a"));
    scene.settle();
    for _ in 0..60 {
        scene.probe("b", "a", true);
        scene.pass(1);
    }
    assert_eq!(scene.lost, []);
    assert_eq!(scene.offer("a"), Some(Offer::Avoid), "its load is not known");
}

#[test]
fn a_killed_relay_is_off_the_list_at_once_and_lost_after_three_heartbeats() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.pass(2);
    scene.dead.push("a");
    scene
        .registry
        .handle_peer_down(at(scene.now), stream("b"), &id("a"), BootId([1; 8]));
    assert_eq!(
        scene.offer("a"),
        Some(Offer::Active),
        "a peer alone says nothing either"
    );
    scene.registry.handle_stream_lost(at(scene.now), stream("a"));
    scene.settle();
    assert_eq!(scene.state("a"), State::Silent);
    assert_eq!(scene.lost, []);
    scene.pass(6);
    assert_eq!(scene.lost, [(id("a"), WhyLost::PeersCannotReachIt)]);
}

#[test]
fn whoever_is_asked_about_a_broken_stream_is_believed_at_once() {
    let mut scene = Scene::of(&["a", "b"]);
    scene.probe("b", "a", true);
    scene.dead.push("a");
    scene
        .registry
        .handle_stream_lost(at(scene.now + 100), stream("a"));
    scene.now += 200;
    scene.settle();
    assert_eq!(scene.state("a"), State::Silent);
    assert_eq!(list::entries(&scene.registry).count(), 1);
}

#[test]
fn a_relay_that_hangs_is_lost_within_six_seconds_of_its_last_word() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.pass(2);
    scene.dead.push("a");
    scene.pass(5);
    assert_eq!(scene.lost, []);
    scene.pass(1);
    assert_eq!(scene.lost, [(id("a"), WhyLost::PeersCannotReachIt)]);
    assert_eq!(list::entries(&scene.registry).count(), 2);
}

#[test]
fn peer_down_of_another_process_means_nothing() {
    let mut scene = Scene::of(&["a", "b"]);
    scene
        .registry
        .handle_peer_down(at(scene.now), stream("b"), &id("a"), BootId([9; 8]));
    scene.registry.handle_stream_lost(at(scene.now), stream("a"));
    assert_eq!(scene.offer("a"), Some(Offer::Active));
}

#[test]
fn a_deaf_control_plane_loses_nobody() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.pass(2);
    for name in ["a", "b", "c"] {
        scene.dead.push(name);
        scene.registry.handle_stream_lost(at(scene.now), stream(name));
    }
    scene.pass(400);
    assert!(scene.registry.is_deaf(at(scene.now)));
    assert_eq!(scene.lost, []);
    assert_eq!(list::entries(&scene.registry).count(), 3);
}

#[test]
fn a_control_plane_that_was_stopped_for_a_while_waits_for_what_is_in_its_sockets() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.pass(2);
    scene.now += 30_000;
    scene.registry.handle_timeout(at(scene.now));
    scene
        .registry
        .handle_heartbeat(at(scene.now), 0, stream("b"), Heartbeat::default());
    scene.registry.handle_timeout(at(scene.now + 200));
    scene.settle();
    assert_eq!(scene.lost, []);
    assert_eq!(list::entries(&scene.registry).count(), 3);
    scene.dead.push("a");
    scene.pass(7);
    assert_eq!(scene.lost, [(id("a"), WhyLost::PeersCannotReachIt)]);
}

#[test]
fn two_of_three_that_die_at_once_are_both_lost() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    scene.pass(2);
    scene.dead.extend(["a", "b"]);
    scene.pass(7);
    let lost: Vec<_> = scene
        .lost
        .iter()
        .map(|(relay, why)| (relay.as_str(), *why))
        .collect();
    assert_eq!(
        lost,
        [
            ("a", WhyLost::PeersCannotReachIt),
            ("b", WhyLost::PeersCannotReachIt)
        ]
    );
}

#[test]
fn relays_that_only_their_peers_hear_stay_listed_as_to_be_avoided() {
    let mut scene = Scene::of(&["a", "b", "c", "d", "e"]);
    scene.pass(2);
    scene.mute.extend(["a", "b", "c", "d"]);
    scene.pass(60);
    assert_eq!(scene.lost, []);
    assert_eq!(
        ["a", "d", "e"].map(|name| scene.offer(name)),
        [Offer::Avoid, Offer::Avoid, Offer::Active].map(Some)
    );
    scene.mute.clear();
    scene.pass(3);
    assert_eq!(scene.offer("a"), Some(Offer::Active));
}

#[test]
fn the_only_relay_is_lost_when_it_is_silent() {
    let mut scene = Scene::of(&["a"]);
    scene.dead.push("a");
    scene.pass(7);
    assert_eq!(scene.lost, [(id("a"), WhyLost::NobodyCanTell)]);
}

#[test]
fn what_another_replica_hears_is_alive() {
    let mut scene = Scene::of(&["a", "b"]);
    scene.dead.push("a");
    for _ in 0..20 {
        scene
            .registry
            .handle_heard_elsewhere(at(scene.now), &id("a"), at(scene.now));
        scene.pass(1);
    }
    assert_eq!(scene.lost, []);
}

#[test]
fn a_relay_that_flaps_is_held_back_for_a_while() {
    let mut scene = Scene::of(&["a", "b", "c"]);
    for boot in 2..5 {
        scene.registry.handle_stream_lost(at(scene.now), stream("a"));
        scene
            .registry
            .handle_hello(at(scene.now), 0, stream("a"), hello_of("a", boot))
            .unwrap();
        scene.registry.handle_synced(at(scene.now), stream("a"));
        scene.settle();
        scene.pass(1);
    }
    assert_eq!(scene.offer("a"), Some(Offer::Avoid));
    scene.pass(300);
    assert_eq!(scene.offer("a"), Some(Offer::Active));
}

#[test]
fn a_drained_relay_leaves_without_being_held_against_it() {
    let mut scene = Scene::of(&["a", "b"]);
    scene.pass(2);
    assert!(scene.registry.handle_drain(at(scene.now), &id("a")));
    assert_eq!(scene.offer("a"), Some(Offer::Draining));
    assert!(scene.registry.handle_undrain(at(scene.now), &id("a")));
    assert_eq!(scene.offer("a"), Some(Offer::Active));
    scene.registry.handle_drain(at(scene.now), &id("a"));
    scene.registry.handle_stream_lost(at(scene.now), stream("a"));
    scene.settle();
    assert_eq!(scene.lost, [(id("a"), WhyLost::Left)]);
    assert!(!scene.registry.handle_drain(at(scene.now), &id("nobody")));
}

#[test]
fn relays_that_only_the_database_knows_are_waited_for() {
    let mut scene = Scene::new();
    for name in ["a", "gone"] {
        scene.registry.handle_expected(at(0), &id(name));
    }
    assert!(!scene.registry.snapshot(at(0)).is_lost(&id("gone")));
    scene.attach("a");
    scene.attach("b");
    scene.pass(9);
    assert_eq!(scene.lost, []);
    scene.probe("b", "gone", false);
    scene.pass(2);
    assert_eq!(scene.lost, [(id("gone"), WhyLost::PeersCannotReachIt)]);
    assert!(scene.registry.is_settled());
    assert!(scene.registry.snapshot(at(scene.now)).is_lost(&id("gone")));
}

#[test]
fn load_shows_in_bands_and_a_full_relay_is_to_be_avoided() {
    let mut scene = Scene::of(&["a", "b"]);
    let mut beat = |load_permille| {
        let beat = Heartbeat {
            load_permille,
            ..Heartbeat::default()
        };
        scene.registry.handle_heartbeat(at(1), 0, stream("a"), beat);
        scene.registry.relay(&id("a")).unwrap().offer()
    };
    assert_eq!(
        [850, 750, 650].map(&mut beat),
        [Offer::Avoid, Offer::Avoid, Offer::Active].map(Some)
    );
}

/// What may happen to relay `a`, in any order.
#[derive(Clone, Debug)]
enum Event {
    StreamLost,
    Reattached,
    PeerDown,
    Reached,
    NotReached,
    Passed(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::StreamLost),
        Just(Event::Reattached),
        Just(Event::PeerDown),
        Just(Event::Reached),
        Just(Event::NotReached),
        (1..5u64).prop_map(Event::Passed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// In no order of events is it lost unless it was silent for three heartbeats, and nobody else ever; in every order
    /// it is lost in the end if it is dead, and listed if it lives.
    #[test]
    fn no_order_of_events_loses_the_living_or_keeps_the_dead(events in prop::collection::vec(event(), 0..30), dies: bool) {
        let mut scene = Scene::of(&["a", "b", "c"]);
        scene.dead.push("a");
        let mut heard = 0;
        for event in events {
            let was_lost = scene.lost.len();
            match event {
                Event::StreamLost => scene.registry.handle_stream_lost(at(scene.now), stream("a")),
                Event::Reattached => {
                    scene.dead.clear();
                    scene.attach("a");
                    scene.dead.push("a");
                    heard = scene.now;
                }
                Event::PeerDown => {
                    scene.registry.handle_peer_down(at(scene.now), stream("b"), &id("a"), BootId([1; 8]));
                }
                Event::Reached => scene.probe("c", "a", true),
                Event::NotReached => scene.probe("c", "a", false),
                Event::Passed(seconds) => scene.pass(seconds),
            }
            scene.settle();
            if scene.lost.len() > was_lost {
                prop_assert!(scene.now >= heard + 6_000, "heard {heard}, lost by {}", scene.now);
            }
            prop_assert!(scene.lost.iter().all(|(relay, _)| relay.as_str() == "a"));
        }
        if dies {
            scene.pass(25);
            prop_assert_eq!(scene.state("a"), State::Lost);
        } else {
            scene.dead.clear();
            scene.attach("a");
            scene.pass(1);
            prop_assert!(scene.offer("a").is_some());
        }
    }
}

#[test]
fn a_thousand_relays_reconnecting_at_once_share_the_checks() {
    let mut registry = Registry::new(Config::default(), START);
    let mut orders = BTreeMap::<Checker, usize>::new();
    for nth in 0..1_000u64 {
        let hello = Hello {
            place: located("eu"),
            ..hello(&format!("r{nth}"), 1)
        };
        registry.handle_hello(at(0), 0, StreamId(nth), hello).unwrap();
        registry.handle_synced(at(0), StreamId(nth));
        while let Some(output) = registry.poll_output() {
            if let Output::CheckAddress { by, .. } = output {
                *orders.entry(by).or_default() += 1;
            }
        }
    }
    assert_eq!(orders.values().sum::<usize>(), 1_000);
    assert!(orders.values().max() <= Some(&3), "{:?}", orders.values().max());
    assert_eq!(ms(200), TICK);
}
