use proptest::prelude::*;

use super::*;
use crate::{
    Heartbeat, StreamId,
    placement::Measurement,
    registry::Output,
    relay::AddressReport,
    testing::{Seed, at, hello, id, located, ms, room},
};

/// Somebody reaches every address.
fn settle(world: &mut World, now: u64) {
    while let Some(output) = world.registry.poll_output() {
        if let Output::CheckAddress {
            by, relay, addresses, ..
        } = output
        {
            for address in addresses {
                let report = AddressReport {
                    relay: relay.clone(),
                    address,
                    outcome: Ok(()),
                };
                world.registry.handle_address_report(at(now), &by, &report);
            }
        }
    }
}

fn world(relays: &[&str]) -> World {
    let mut world = World::new(Config::default(), 1);
    for (nth, name) in relays.iter().enumerate() {
        let stream = StreamId(nth as u64);
        let hello = crate::Hello {
            place: located(&format!("eu/{name}")),
            ..hello(name, 1)
        };
        world.registry.handle_hello(at(0), 0, stream, hello).unwrap();
        world.registry.handle_synced(at(0), stream);
        settle(&mut world, 0);
    }
    world
}

/// Joins as the shell does, its database being `world` itself.
fn join(world: &mut World, now: u64, name: &str, request: &Request, rng: &mut Seed) -> Lease {
    let row = world.leases().lease(&room(name));
    let lease = match world
        .decide_join(at(now), &room(name), row.as_ref(), request, rng)
        .unwrap()
    {
        Decision::Keep(lease, _) => lease,
        Decision::Write(write, _) => write.lease,
    };
    world.handle_joined(at(now), &lease, request);
    lease
}

fn carried(world: &World, now: u64) -> Vec<u32> {
    world
        .registry
        .relays()
        .map(|relay| relay.load.members(at(now), Duty::Carry))
        .collect()
}

#[test]
fn a_hundred_joins_in_thirty_seconds_are_spread_whether_or_not_they_arrived() {
    for arrive in [true, false] {
        let names: Vec<_> = (0..10).map(|nth| format!("r{nth}")).collect();
        let mut world = world(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut rng = Seed(1);
        let mut totals = std::collections::BTreeMap::new();
        for nth in 0..100u64 {
            let name = format!("room-{}", nth % 50);
            let now = nth * 300;
            let lease = join(&mut world, now, &name, &Request::default(), &mut rng);
            for seat in &lease.seats {
                *totals.entry((seat.relay.clone(), seat.carries)).or_insert(0) += 1;
                if arrive {
                    let members = nth as u32 / 50 + 1;
                    assert!(world.handle_members(at(now + 50), &seat.relay, &room(&name), members));
                }
            }
        }
        for carries in [true, false] {
            let of = |((_, duty), count): (&(RelayId, bool), &u32)| (*duty == carries).then_some(*count);
            let most = totals.iter().filter_map(of).max().unwrap();
            assert!(most < 13, "arrive {arrive}, carries {carries}: {totals:?}");
        }
    }
}

#[test]
fn members_are_counted_where_they_are_and_once() {
    let mut world = world(&["a", "b", "c"]);
    let mut rng = Seed(2);
    let lease = join(&mut world, 0, "r", &Request::default(), &mut rng);
    assert_eq!(carried(&world, 0).iter().sum::<u32>(), 1);
    for seat in &lease.seats {
        assert!(world.handle_members(at(10), &seat.relay, &room("r"), 1));
    }
    assert!(!world.handle_members(at(10), &id("nobody"), &room("r"), 1));
    assert_eq!(carried(&world, 60_000).iter().sum::<u32>(), 1);
    // The standby takes over: its members are carried now, the others' not any more.
    let lost = lease.seats[0].relay.clone();
    world.handle_lost(at(10), &lost);
    let writes = world.plan_lost(at(10), &lost, &mut rng);
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].lease.seats[0].relay, lease.seats[1].relay);
    assert_eq!(world.handle_lease(at(10), &writes[0].lease), Learnt::New);
    let of = |world: &World, relay| {
        world
            .registry
            .relay(relay)
            .unwrap()
            .load
            .members(at(60_000), Duty::Carry)
    };
    assert_eq!((of(&world, &lost), of(&world, &lease.seats[1].relay)), (0, 1));
    world.handle_forgotten(at(10), &room("r"));
    assert_eq!(carried(&world, 60_000), [0, 0, 0]);
    assert!(world.leases().is_empty());
}

#[test]
fn far_members_get_a_relay_of_their_own() {
    let mut world = world(&["a", "b", "c"]);
    let mut rng = Seed(1);
    let probe = crate::testing::probe("b", 90);
    world.registry.handle_probe_report(at(0), StreamId(0), &[probe]);
    let measured = |ways: [(&str, u64); 2]| Request {
        measurements: ways
            .map(|(relay, rtt)| Measurement {
                relay: id(relay),
                rtt: ms(rtt),
                loss_permille: 0,
            })
            .to_vec(),
        region: Box::default(),
    };
    let here = join(&mut world, 1, "r", &measured([("a", 20), ("b", 250)]), &mut rng);
    assert_eq!(here.seats[0].relay, id("a"));
    let there = join(&mut world, 2, "r", &measured([("a", 260), ("b", 15)]), &mut rng);
    assert!(there.epoch > here.epoch);
    let carrying: Vec<_> = there
        .seats
        .iter()
        .filter(|seat| seat.carries)
        .map(|seat| seat.relay.as_str())
        .collect();
    assert_eq!(carrying, ["a", "b"]);
    let again = join(&mut world, 3, "r", &measured([("a", 240), ("b", 18)]), &mut rng);
    assert_eq!(again.epoch, there.epoch);
}

#[test]
fn an_overloaded_relay_gives_away_what_is_too_much() {
    let mut world = world(&["a", "b"]);
    let mut rng = Seed(1);
    for nth in 0..20 {
        let name = format!("room-{nth}");
        let seats = vec![crate::Seat {
            relay: id("a"),
            carries: true,
        }];
        world.handle_lease(
            at(0),
            &Lease {
                room: room(&name),
                epoch: wzp_wire::Epoch(1),
                seats,
            },
        );
        world.handle_members(at(0), &id("a"), &room(&name), 5);
    }
    let beat = |load_permille| Heartbeat {
        load_permille,
        members: 100,
        ..Heartbeat::default()
    };
    world
        .registry
        .handle_heartbeat(at(1_000), 0, StreamId(0), beat(940));
    assert_eq!(world.plan_rebalance(at(1_000), 10, &mut rng), []);
    world
        .registry
        .handle_heartbeat(at(1_000), 0, StreamId(0), beat(1_000));
    let writes = world.plan_rebalance(at(1_000), 10, &mut rng);
    // A hundred members are all of it: ten of them are a tenth.
    assert!((2..=3).contains(&writes.len()), "{}", writes.len());
    assert!(
        writes
            .iter()
            .all(|write| write.cause == Cause::Rebalance && write.lease.seats[0].relay == id("b"))
    );
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// What may happen to a cluster of five.
#[derive(Clone, Debug)]
enum Event {
    Join(usize),
    Restart(usize),
    Drain(usize),
    Undrain(usize),
    Delete(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..8usize).prop_map(Event::Join),
        2 => (0..5usize).prop_map(Event::Restart),
        1 => (0..5usize).prop_map(Event::Drain),
        1 => (0..5usize).prop_map(Event::Undrain),
        1 => (0..8usize).prop_map(Event::Delete),
    ]
}

/// Writes as a database does, and checks what is written.
fn write(world: &mut World, now: u64, write: &Write, without: Option<&RelayId>) -> Result<(), TestCaseError> {
    let Write { expected, lease, .. } = write;
    prop_assert_eq!(*expected, world.leases().epoch(&lease.room));
    prop_assert_eq!(lease.epoch, expected.next());
    let relays: std::collections::BTreeSet<_> = lease.seats.iter().map(|seat| &seat.relay).collect();
    prop_assert_eq!(relays.len(), lease.seats.len(), "each relay once: {:?}", lease);
    prop_assert!(
        lease.seats.is_sorted_by_key(|seat| !seat.carries) && lease.seats.iter().any(|seat| seat.carries)
    );
    prop_assert!(
        without.is_none_or(|relay| !lease.seats_relay(relay)),
        "{:?} without {:?}",
        lease,
        without
    );
    prop_assert_eq!(world.handle_lease(at(now), lease), Learnt::New);
    Ok(())
}

fn restart(world: &mut World, now: u64, nth: usize, boot: u8) {
    let stream = StreamId(nth as u64);
    world.registry.handle_stream_lost(at(now), stream);
    let hello = crate::Hello {
        place: located(&format!("eu/{}", NAMES[nth])),
        ..hello(NAMES[nth], boot)
    };
    world.registry.handle_hello(at(now), 0, stream, hello).unwrap();
    world.registry.handle_synced(at(now), stream);
    settle(world, now);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever happens: epochs rise by one, a room has somebody who carries, and who was lost or emptied has no seat.
    #[test]
    fn every_lease_that_is_written_keeps_the_rules(events in prop::collection::vec(event(), 0..60), seed: u64) {
        let mut world = world(&NAMES);
        let mut rng = Seed(seed);
        for (nth, event) in events.into_iter().enumerate() {
            let now = 1_000 + nth as u64 * 50;
            match event {
                Event::Join(nth) => {
                    let name = room(&format!("room-{nth}"));
                    let row = world.leases().lease(&name);
                    let request = Request::default();
                    let lease = match world.decide_join(at(now), &name, row.as_ref(), &request, &mut rng).unwrap() {
                        Decision::Keep(lease, _) => lease,
                        Decision::Write(order, _) => {
                            write(&mut world, now, &order, None)?;
                            order.lease
                        }
                    };
                    world.handle_joined(at(now), &lease, &request);
                    for seat in &lease.seats {
                        prop_assert!(world.handle_members(at(now), &seat.relay, &name, nth as u32 + 1));
                    }
                }
                Event::Restart(relay) => {
                    restart(&mut world, now, relay, nth as u8 + 2);
                    let relay = id(NAMES[relay]);
                    world.handle_lost(at(now), &relay);
                    for order in world.plan_lost(at(now), &relay, &mut rng) {
                        write(&mut world, now, &order, Some(&relay))?;
                    }
                    prop_assert_eq!(world.leases().rooms_of(&relay).count(), 0);
                }
                Event::Drain(relay) => {
                    let relay = id(NAMES[relay]);
                    world.registry.handle_drain(at(now), &relay);
                    let plan = world.plan_drain(at(now), &relay, drain::DEADLINE, &mut rng);
                    for step in &plan.steps {
                        write(&mut world, now, &step.write, Some(&relay))?;
                    }
                    prop_assert_eq!(world.leases().rooms_of(&relay).count(), plan.stuck.len());
                }
                Event::Undrain(relay) => prop_assert!(world.registry.handle_undrain(at(now), &id(NAMES[relay]))),
                Event::Delete(nth) => {
                    if let Some(lease) = world.leases().lease(&room(&format!("room-{nth}"))) {
                        let order = leases::on_delete(&lease);
                        prop_assert_eq!(world.handle_lease(at(now), &order.lease), Learnt::New);
                    }
                }
            }
        }
        // Counts follow from what is there: with every room gone nobody is left.
        for nth in 0..8 {
            world.handle_forgotten(at(100_000), &room(&format!("room-{nth}")));
        }
        prop_assert_eq!(carried(&world, 100_000), [0; 5]);
    }
}
