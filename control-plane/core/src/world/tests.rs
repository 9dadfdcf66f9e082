use super::*;
use crate::{
    Heartbeat, StreamId,
    placement::Measurement,
    registry::{Checker, Output},
    relay::AddressReport,
    testing::{Seed, at, hello, id, located, ms, room},
};

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
                    world.registry.handle_address_report(at(0), &by, &report);
                }
            }
        }
        assert_ne!(Checker::Control, Checker::Relay(id(name)));
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
