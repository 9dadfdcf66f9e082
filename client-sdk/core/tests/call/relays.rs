//! Calls over several relays: one dies, one is drained, one disagrees.

use std::time::Duration;

use wzp_sdk_core::{call::Event, paths::Cause};
use wzp_wire::{
    Epoch,
    signal::{Kind, Reason, proto},
};

use crate::{
    cluster::{Cluster, relay_id, seat},
    room::id,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three members talk over relay 0, and relay 1 stands by.
fn talking(relays: usize) -> Cluster {
    let mut cluster = Cluster::new(relays);
    for _ in 0..3 {
        cluster.join(&[0, 1]);
    }
    cluster.run(5.0);
    for (me, person) in cluster.people.iter().enumerate() {
        assert_eq!(person.carries(), Some(0));
        for other in (0..3).filter(|other| *other != me) {
            let verified =
                |event: &Event| matches!(event, Event::MemberJoined { sender, .. } if *sender == id(other));
            assert_eq!(person.events.iter().filter(|event| verified(event)).count(), 1);
        }
        assert_quiet(&cluster, me);
    }
    cluster
}

fn assert_quiet(cluster: &Cluster, me: usize) {
    let person = &cluster.people[me];
    let loud = |event: &Event| {
        matches!(
            event,
            Event::Misbehaviour { .. }
                | Event::MemberLeft { .. }
                | Event::Refused { .. }
                | Event::Disagreement { .. }
        )
    };
    assert!(!person.saw(loud), "{me}: {:?}", person.events);
    let counts = person.call.counts();
    assert_eq!((counts.nonsense, counts.malformed, counts.unopened), (0, 0, 0));
}

fn joins(cluster: &Cluster, me: usize) -> Vec<(usize, proto::Join)> {
    let said = cluster.people[me].said.iter();
    let joins = said.filter_map(|(relay, kind)| match kind {
        Kind::Join(join) => Some((*relay, join.clone())),
        _ => None,
    });
    joins.collect()
}

fn carries(cluster: &Cluster, me: usize) -> Vec<(usize, bool)> {
    let said = cluster.people[me].said.iter();
    let carries = said.filter_map(|(relay, kind)| match kind {
        Kind::Carry(proto::Carry { here }) => Some((*relay, *here)),
        _ => None,
    });
    carries.collect()
}

#[test]
fn every_relay_gets_one_announcement_and_only_one_carries() {
    let cluster = talking(2);
    for me in 0..3 {
        let [(0, first), (1, second)] = &joins(&cluster, me)[..] else {
            panic!("{:?}", joins(&cluster, me));
        };
        assert_eq!(first.announcement, second.announcement);
        assert_eq!((first.standby, second.standby), (false, true));
        assert_eq!(carries(&cluster, me), []);
        assert!(cluster.people[me].saw(|event| matches!(
            event,
            Event::Path { relay: Some(relay), standby: Some(standby), cause: Cause::First, both: false, .. }
                if *relay == relay_id(0) && *standby == relay_id(1)
        )));
        let said_to_standby =
            |(relay, kind): &&(usize, Kind)| *relay == 1 && matches!(kind, Kind::PeerMessage(_));
        assert_eq!(cluster.people[me].said.iter().filter(said_to_standby).count(), 0);
    }
}

#[test]
fn carrier_that_dies_is_missed_for_half_a_second_and_tried_again_until_it_is_back() {
    let mut cluster = talking(2);
    cluster.relays[0].dead = true;
    let killed = cluster.now;
    cluster.run(6.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!(person.carries(), Some(1));
        assert!(person.gap(killed) <= ms(600), "{:?}", person.gap(killed));
        assert_eq!(carries(&cluster, me), [(1, true), (0, false)]);
        assert!(person.saw(|event| matches!(event, Event::Path { both: true, .. })));
        assert_quiet(&cluster, me);
    }
    // The shell gives the connection up after a while, and the relay comes back.
    for me in 0..3 {
        let now = cluster.now;
        let person = &mut cluster.people[me];
        let path = person.path(0).unwrap();
        person.call.remove_path(now, path);
        person.paths.retain(|(id, _)| *id != path);
    }
    cluster.run(20.0);
    cluster.relays[0] = crate::cluster::Relay::default();
    cluster.run(20.0);
    for me in 0..3 {
        assert_quiet(&cluster, me);
        assert_eq!(
            cluster.people[me].carries(),
            Some(1),
            "nobody goes back without need"
        );
        let (relay, again) = joins(&cluster, me).pop().unwrap();
        assert_eq!((relay, again.standby), (0, true));
    }
    assert_eq!(cluster.inside(0), [0, 1, 2]);

    cluster.relays[1].dead = true;
    let killed = cluster.now;
    cluster.run(6.0);
    for me in 0..3 {
        assert_eq!(cluster.people[me].carries(), Some(0));
        assert!(cluster.people[me].gap(killed) <= ms(600));
        assert_quiet(&cluster, me);
    }
}

#[test]
fn keys_of_a_newcomer_and_of_those_who_stay_go_over_whatever_lives() {
    let mut cluster = talking(2);
    cluster.relays[0].dead = true;
    cluster.run(2.0);
    let late = cluster.join(&[1]);
    cluster.run(3.0);
    assert!(cluster.people[late].heard.len() > 200);
    cluster.people[late].call.leave();
    cluster.run(3.0);
    for me in 0..3 {
        assert!(
            cluster.people[me]
                .saw(|event| matches!(event, Event::MemberLeft { sender, .. } if *sender == id(late)))
        );
        assert!(cluster.people[me].gap(cluster.now - Duration::from_secs(2)) < ms(100));
        assert_eq!(cluster.people[me].call.counts().nonsense, 0);
    }
}

#[test]
fn keys_that_come_over_both_paths_are_no_misbehaviour() {
    let mut cluster = talking(2);
    for me in 0..3 {
        let now = cluster.now;
        let path = cluster.people[me].path(0).unwrap();
        // Both paths carry for a while; meanwhile somebody leaves, so that keys change.
        cluster.people[me].call.handle_ping(now - ms(900), path);
        cluster.people[me].call.handle_ping(now - ms(800), path);
    }
    cluster.people[2].call.leave();
    cluster.run(3.0);
    let duplicates: u64 = (0..2)
        .map(|me| cluster.people[me].call.counts().duplicate_messages)
        .sum();
    assert!(duplicates > 0);
    for me in 0..2 {
        assert!(!cluster.people[me].saw(|event| matches!(event, Event::Misbehaviour { .. })));
        assert_eq!(cluster.people[me].carries(), Some(0));
    }
}

#[test]
fn drained_relay_is_left_without_a_gap_and_without_a_member_lost() {
    let mut cluster = talking(3);
    let ordered = cluster.now;
    cluster.order_move(0, 2, vec![seat(1, true), seat(2, false)], 4_000);
    cluster.run(12.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!((person.carries(), person.call.epoch()), (Some(1), Epoch(2)));
        assert!(person.gap(ordered) <= ms(60), "{:?}", person.gap(ordered));
        assert!(person.saw(|event| matches!(event, Event::Moving { epoch: Epoch(2), .. })));
        assert_quiet(&cluster, me);
        assert!(person.path(0).is_none());
    }
    assert_eq!(
        [cluster.inside(0), cluster.inside(1), cluster.inside(2)],
        [vec![], vec![0, 1, 2], vec![0, 1, 2]]
    );
}

#[test]
fn relay_that_stops_while_no_control_plane_answers_is_left_under_the_same_epoch() {
    let mut cluster = talking(3);
    let ordered = cluster.now;
    let epoch = cluster.people[0].call.epoch();
    cluster.order_move(0, epoch.0, vec![seat(1, true), seat(2, false)], 1_000);
    cluster.run(12.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!((person.carries(), person.call.epoch()), (Some(1), epoch));
        assert!(person.gap(ordered) <= ms(60), "{:?}", person.gap(ordered));
        assert!(person.path(0).is_none());
    }
    assert_eq!([cluster.inside(0), cluster.inside(1)], [vec![], vec![0, 1, 2]]);
}

#[test]
fn move_to_relays_never_seen_is_made_before_the_old_ones_are_left() {
    let mut cluster = talking(4);
    let ordered = cluster.now;
    for old in [0, 1] {
        cluster.order_move(old, 2, vec![seat(2, true), seat(3, false)], 4_000);
    }
    cluster.run(12.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!(person.carries(), Some(2));
        assert!(person.gap(ordered) <= ms(60), "{:?}", person.gap(ordered));
        assert_quiet(&cluster, me);
    }
    assert!(cluster.inside(0).is_empty() && cluster.inside(1).is_empty());
    assert_eq!(cluster.inside(3), [0, 1, 2]);
}

#[test]
fn nobody_goes_back_to_an_epoch_that_is_over() {
    let mut cluster = talking(3);
    cluster.order_move(0, 5, vec![seat(1, true), seat(2, false)], 0);
    cluster.run(5.0);
    cluster.order_move(1, 4, vec![seat(0, true)], 0);
    cluster.run(5.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!((person.carries(), person.call.epoch()), (Some(1), Epoch(5)));
        assert_eq!(person.call.counts().nonsense, 1);
    }
}

#[test]
fn relay_that_gives_another_sender_id_is_not_used() {
    let mut cluster = Cluster::new(2);
    cluster.relays[1].contrary = true;
    for _ in 0..2 {
        cluster.join(&[0, 1]);
    }
    cluster.run(3.0);
    for me in 0..2 {
        let person = &cluster.people[me];
        assert_eq!(
            (person.carries(), person.call.sender_id()),
            (Some(0), Some(id(me)))
        );
        assert!(person.saw(
            |event| matches!(event, Event::Disagreement { relay: Some(relay), .. } if *relay == relay_id(1))
        ));
        assert!(person.heard.len() > 100);
    }
}

#[test]
fn standby_that_refuses_us_is_told_of_and_the_call_goes_on() {
    let mut cluster = talking(2);
    for me in 0..3 {
        let goodbye = proto::Goodbye {
            reason: Reason::Overloaded.into(),
            text: "full".into(),
        };
        cluster.say(1, me, Kind::Goodbye(goodbye));
    }
    cluster.run(3.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!(person.carries(), Some(0));
        assert!(person.saw(|event| matches!(
            event,
            Event::PathRefused {
                reason: Reason::Overloaded,
                ..
            }
        )));
        assert!(!person.saw(|event| matches!(event, Event::Refused { .. } | Event::MemberLeft { .. })));
    }
}

#[test]
fn carrier_that_never_answers_the_join_gives_way_to_the_standby() {
    let mut cluster = Cluster::new(2);
    cluster.relays[0].dead = true;
    for _ in 0..2 {
        cluster.join(&[0, 1]);
    }
    cluster.run(4.0);
    for person in &cluster.people {
        assert_eq!(person.carries(), Some(1));
        assert!(person.heard.len() > 100, "{}", person.heard.len());
    }
}

#[test]
fn relay_that_refuses_us_again_and_again_is_told_of_once() {
    let mut cluster = Cluster::new(2);
    cluster.relays[1].closed = true;
    for _ in 0..2 {
        cluster.join(&[0, 1]);
    }
    cluster.run(20.0);
    for me in 0..2 {
        let refused = |event: &&Event| {
            matches!(
                event,
                Event::PathRefused {
                    reason: Reason::NotServed,
                    ..
                }
            )
        };
        assert_eq!(cluster.people[me].events.iter().filter(refused).count(), 1);
        let asked = joins(&cluster, me)
            .iter()
            .filter(|(relay, _)| *relay == 1)
            .count();
        assert!((3..40).contains(&asked), "{asked}");
        assert_eq!(cluster.people[me].carries(), Some(0));
    }
    cluster.relays[1].closed = false;
    cluster.run(8.0);
    assert_eq!(cluster.inside(1), [0, 1]);
}

#[test]
fn who_was_away_while_the_room_moved_is_told_where_it_went() {
    let mut cluster = talking(4);
    cluster.relays[0].dead = true;
    cluster.relays[1].dead = true;
    for me in 0..3 {
        let now = cluster.now;
        let person = &mut cluster.people[me];
        for (path, _) in std::mem::take(&mut person.paths) {
            person.call.remove_path(now, path);
        }
        assert!(!person.call.is_inside());
        person.call.handle_relays(now, Epoch(1), vec![seat(3, true)]);
        person
            .call
            .handle_relays(now, Epoch(3), vec![seat(2, true), seat(3, false)]);
    }
    let lost = cluster.now;
    cluster.run(5.0);
    for me in 0..3 {
        let person = &cluster.people[me];
        assert_eq!((person.carries(), person.call.epoch()), (Some(2), Epoch(3)));
        assert!(person.gap(lost) <= ms(600), "{:?}", person.gap(lost));
        assert_quiet(&cluster, me);
    }
}

#[test]
fn who_comes_back_under_another_number_announces_itself_anew() {
    let mut cluster = talking(2);
    for relay in &mut cluster.relays {
        relay.dead = true;
    }
    let now = cluster.now;
    let person = &mut cluster.people[2];
    for (path, _) in std::mem::take(&mut person.paths) {
        person.call.remove_path(now, path);
    }
    cluster.relays[0] = crate::cluster::Relay::default();
    cluster.relays[0].contrary = true;
    cluster.run(3.0);
    let announcements: std::collections::BTreeSet<_> = joins(&cluster, 2)
        .into_iter()
        .map(|(_, join)| join.announcement)
        .collect();
    assert_eq!(announcements.len(), 2);
    assert!(
        cluster.people[2].saw(|event| matches!(event, Event::Joined { sender, .. } if sender.get() == 999))
    );
}

#[test]
fn who_was_away_for_long_is_no_recording_of_itself() {
    for (away, told) in [(3.0, false), (12.0, false), (12.0, true)] {
        let mut cluster = talking(2);
        let now = cluster.now;
        let person = &mut cluster.people[2];
        person.cut = true;
        for (path, _) in std::mem::take(&mut person.paths) {
            person.call.remove_path(now, path);
        }
        cluster.run(away);
        for relay in [0, 1].into_iter().filter(|_| told) {
            cluster.expel(relay, 2);
        }
        cluster.people[2].cut = false;
        cluster.run(8.0);
        let back = cluster.now;
        cluster.run(3.0);
        let announcements: std::collections::BTreeSet<_> = joins(&cluster, 2)
            .into_iter()
            .map(|(_, join)| join.announcement)
            .collect();
        assert_eq!(announcements.len(), if away > 8.0 { 2 } else { 1 });
        for me in 0..2 {
            let person = &mut cluster.people[me];
            let replay = |event: &Event| matches!(event, Event::Misbehaviour { .. });
            assert!(!person.saw(replay), "{:?}", person.events);
            let mut heard = false;
            person
                .call
                .remotes(|public, remote| heard |= remote.sender == id(2) && public.is_some());
            assert!(heard, "{away} {told}: {:?}", person.events);
        }
        assert!(cluster.people[2].gap(back) < ms(100));
    }
}

#[test]
fn relays_that_know_of_no_others_are_not_told_which_of_them_carries() {
    let mut cluster = Cluster::new(2);
    cluster.relays.iter_mut().for_each(|relay| relay.epoch = 0);
    for _ in 0..2 {
        cluster.join(&[0, 1]);
    }
    cluster.run(3.0);
    cluster.relays[0].dead = true;
    cluster.run(3.0);
    for me in 0..2 {
        assert_eq!(
            (cluster.people[me].carries(), carries(&cluster, me)),
            (Some(1), vec![])
        );
    }
}
