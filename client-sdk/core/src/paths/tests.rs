use std::time::Duration;

use proptest::prelude::*;
use wzp_wire::Instant;

use super::{Cause, Kind, PathId, Role, Sending, Set, sim::World};
use crate::{
    carrier::{Carrier, Why},
    chaos::{Jitter, Loss, Profile},
};

fn at(delay_ms: u64) -> Profile {
    Profile {
        delay: Duration::from_millis(delay_ms),
        ..Profile::default()
    }
}

fn losing(share: f64) -> Profile {
    Profile {
        loss: Loss::Independent(share),
        ..at(20)
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Both members have talked for a while over two good relays.
fn talking(seed: u64) -> World {
    let mut world = World::new(seed, [at(20), at(35)]);
    world.run(secs(5));
    for member in &world.members {
        assert_eq!((member.switches(), member.both_ticks), (0, 0));
    }
    world
}

fn carries(world: &World, member: usize, relay: usize) -> bool {
    let member = &world.members[member];
    member.set.sending() == Sending::On(member.paths[relay])
}

#[test]
fn first_path_carries_and_the_next_takes_over_when_it_goes() {
    let now = Instant::ZERO;
    let mut set = Set::default();
    assert_eq!(set.sending(), Sending::Nowhere);
    let a = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
    let b = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
    assert_eq!(set.sending(), Sending::On(a));
    set.remove(now, a);
    assert_eq!((set.sending(), set.cause()), (Sending::On(b), Cause::Lost));
    set.remove(now, b);
    assert_eq!(set.sending(), Sending::Nowhere);
    assert_ne!(
        set.add(Kind::Relay, Carrier::Lane, Why::Waiting),
        a,
        "ids are not given out again"
    );
}

#[test]
fn unknown_path_is_passed_over() {
    let mut set = Set::default();
    let a = set.add(Kind::Relay, Carrier::Lane, Why::Waiting);
    set.handle_media(Instant::from_micros(5), PathId(99));
    set.handle_media(Instant::from_micros(7), a);
    set.set_carrier(PathId(99), Carrier::Lane, Why::Answered);
    set.set_carrier(a, Carrier::QuicDatagram, Why::FellSilent);
    set.prefer(Instant::ZERO, PathId(99), Cause::Lost);
    set.begin_move(Instant::ZERO, PathId(99));
    let path = set.path(a).unwrap();
    assert_eq!(path.heard, Some(Instant::from_micros(7)));
    assert_eq!((path.carrier, path.why), (Carrier::QuicDatagram, Why::FellSilent));
    assert_eq!((set.path(PathId(99)), set.role(PathId(99))), (None, None));
    assert_eq!(set.sending(), Sending::On(a));
}

#[test]
fn one_path_alone_is_never_asked_and_never_doubted() {
    let mut set = Set::default();
    let a = set.add(Kind::Relay, Carrier::Lane, Why::Answered);
    set.handle_joined(Instant::ZERO, a);
    for tick in 0..1_000 {
        let now = Instant::ZERO + ms(10 * tick);
        set.handle_sent(now);
        set.handle_timeout(now);
        assert!(!set.ping_due(now, a));
    }
    assert_eq!(
        (set.sending(), set.role(a)),
        (Sending::On(a), Some(Role::Carries))
    );
}

#[test]
fn dead_relay_costs_half_a_second_and_everybody_meets_on_the_other() {
    let mut world = talking(1);
    world.alive[0] = false;
    let killed = world.now;
    world.run(secs(10));
    for me in 0..2 {
        let gap = world.gap(me, killed);
        assert!(gap <= ms(600), "{me}: {gap:?}");
        assert!(carries(&world, me, 1));
        assert_eq!(world.members[me].switches(), 1, "{:?}", world.members[me].carried);
    }
}

#[test]
fn member_whose_way_up_broke_is_heard_on_and_moves_alone() {
    let mut world = talking(2);
    world.members[0].up[0].cut();
    let cut = world.now;
    world.run(secs(10));
    assert!(world.gap(1, cut) <= ms(600), "{:?}", world.gap(1, cut));
    assert!(world.gap(0, cut) <= ms(600), "{:?}", world.gap(0, cut));
    assert!(carries(&world, 0, 1) && carries(&world, 1, 0));
    assert_eq!(world.members[0].carried.first().unwrap().2, Cause::Unanswered);
}

#[test]
fn member_whose_way_down_broke_hears_again_by_the_other_relay() {
    let mut world = talking(3);
    world.members[0].down[0].cut();
    let cut = world.now;
    world.run(secs(10));
    assert!(world.gap(0, cut) <= ms(650), "{:?}", world.gap(0, cut));
    assert!(world.gap(1, cut) <= ms(100), "{:?}", world.gap(1, cut));
    assert!(carries(&world, 0, 1) && carries(&world, 1, 0));
}

#[test]
fn path_that_comes_back_stands_by_and_is_used_when_it_is_needed() {
    let mut world = talking(4);
    world.alive[0] = false;
    world.run(secs(3));
    let (set, path) = (&world.members[0].set, world.members[0].paths[0]);
    assert_eq!((set.role(path), set.standby()), (Some(Role::Waits), None));
    world.alive[0] = true;
    world.run(secs(5));
    let set = &world.members[0].set;
    assert_eq!((set.role(path), set.standby()), (Some(Role::Standby), Some(path)));
    assert_eq!(world.members[0].switches(), 1, "nobody goes back without need");

    world.alive[1] = false;
    let killed = world.now;
    world.run(secs(10));
    for me in 0..2 {
        assert!(carries(&world, me, 0));
        let gap = world.gap(me, killed);
        assert!(gap <= ms(1_100), "{gap:?}");
    }
}

#[test]
fn failed_path_is_taken_at_its_first_answer_when_the_other_dies_too() {
    let mut world = talking(5);
    world.alive[0] = false;
    world.run(secs(3));
    world.alive = [true, false];
    let died = world.now;
    world.run(secs(10));
    for me in 0..2 {
        assert!(carries(&world, me, 0));
        assert!(world.gap(me, died) <= ms(1_300), "{:?}", world.gap(me, died));
    }
}

#[test]
fn both_that_are_bad_do_not_take_turns() {
    for seed in 0..8 {
        let mut world = World::new(seed, [losing(0.4), losing(0.4)]);
        world.run(secs(60));
        for member in &world.members {
            assert!(member.switches() <= 4, "{seed}: {:?}", member.carried);
        }
    }
}

#[test]
fn relays_that_flap_in_turn_cost_few_switches() {
    let mut world = talking(6);
    for round in 0..60 {
        world.alive = [round % 2 == 0, round % 2 == 1];
        world.run(ms(500));
        world.alive = [true, true];
        world.run(ms(500));
    }
    for member in &world.members {
        assert!(member.switches() <= 12, "{}", member.switches());
    }
}

#[test]
fn silence_of_everybody_is_no_failure() {
    let mut world = talking(7);
    world.members[1].talks = false;
    world.run(secs(20));
    world.members[0].talks = false;
    world.run(secs(60));
    world.members[0].talks = true;
    world.run(secs(5));
    for member in &world.members {
        assert_eq!((member.switches(), member.both_ticks), (0, 0));
    }
    assert!(world.members[1].set.path(world.members[1].paths[0]).is_some());
}

#[test]
fn machine_that_slept_does_not_blame_the_relay() {
    let mut world = talking(8);
    world.now += secs(3_600);
    world.run(secs(5));
    for member in &world.members {
        assert_eq!(member.switches(), 0);
    }
}

#[test]
fn long_round_trip_is_not_taken_for_death() {
    let slow = Profile {
        jitter: Jitter {
            deviation: ms(60),
            memory: ms(60),
            ..Jitter::default()
        },
        ..at(300)
    };
    let mut world = World::new(9, [slow, slow]);
    world.run(secs(60));
    for member in &world.members {
        assert!(member.switches() <= 1, "{:?}", member.carried);
    }
}

#[test]
fn move_is_made_before_the_old_way_breaks() {
    for (seed, talks) in [(10, true), (11, false)] {
        let mut world = talking(seed);
        world.members[1].talks = talks;
        world.run(secs(1));
        let began = world.now;
        for member in &mut world.members {
            member.set.begin_move(began, member.paths[1]);
            assert_eq!(member.set.cause(), Cause::Moved);
            assert_eq!(
                member.set.sending(),
                Sending::Both(member.paths[0], member.paths[1])
            );
        }
        world.run(secs(5));
        for me in 0..2 {
            assert!(carries(&world, me, 1), "{me}");
            let carried = &world.members[me].carried;
            assert!(
                matches!(carried[..], [(at, _, Cause::Moved)] if at <= began + secs(3)),
                "{carried:?}"
            );
        }
        assert!(world.gap(1, began) <= ms(60), "{:?}", world.gap(1, began));
    }
}

#[test]
fn move_to_a_relay_that_is_not_there_stays_where_it_is_heard() {
    let mut world = talking(12);
    world.alive[1] = false;
    let began = world.now;
    for member in &mut world.members {
        member.set.begin_move(began, member.paths[1]);
    }
    world.run(secs(10));
    for me in 0..2 {
        assert!(world.gap(me, began) <= ms(60));
        let member = &world.members[me];
        assert_eq!(member.set.carrying(), Some(member.paths[0]));
    }
}

fn link() -> impl Strategy<Value = Profile> {
    (5_u64..60, 0_u64..8, 0.0_f64..0.03).prop_map(|(delay, deviation, loss)| Profile {
        delay: ms(delay),
        jitter: Jitter {
            deviation: ms(deviation),
            memory: ms(40),
            ..Jitter::default()
        },
        loss: Loss::Independent(loss),
        ..Profile::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn dead_carrier_is_missed_for_six_tenths_of_a_second_at_most(
        seed in any::<u32>(),
        links in (link(), link()),
        trunk in any::<bool>(),
        after in 3_000_u64..9_000,
    ) {
        let mut world = World::new(seed.into(), [links.0, links.1]);
        world.trunk = trunk;
        world.run(ms(after));
        let on = world.members.iter().all(|member| member.set.carrying() == Some(member.paths[0]));
        prop_assert!(on);
        world.alive[0] = false;
        let killed = world.now;
        world.run(secs(4));
        for me in 0..2 {
            let gap = world.gap(me, killed);
            prop_assert!(gap <= ms(600), "{me}: {gap:?}");
        }
    }
}
