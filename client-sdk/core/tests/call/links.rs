//! Links that get worse, and what members tell each other about them.

use std::time::Duration;

use wzp_sdk_core::{
    call::{Event, TierChoice},
    voice::mode::Tier,
};
use wzp_testkit::{Loss, Profile};

use crate::room::{Room, config};

fn losing(share: f64) -> Profile {
    Profile {
        delay: Duration::from_millis(20),
        loss: Loss::Independent(share),
        ..Profile::default()
    }
}

#[test]
fn the_tier_goes_down_under_loss_and_comes_back() {
    let mut room = Room::new(11);
    room.join(config(), losing(0.0));
    room.join(config(), losing(0.0));
    room.run(5.0);
    assert_eq!(room.seats[0].call.tier(), Tier::Good);

    room.seats[0].up.set_profile(losing(0.3));
    room.run(15.0);
    assert!(room.seats[0].call.tier() > Tier::Good);
    assert!(room.seats[0].saw(|event| matches!(event, Event::Tier { from: Tier::Good, .. })));
    assert_eq!(room.seats[1].call.tier(), Tier::Good, "only one direction is bad");

    room.seats[0].up.set_profile(losing(0.0));
    room.run(60.0);
    assert_eq!(room.seats[0].call.tier(), Tier::Good);
    assert!(room.seats[0].saw(|event| matches!(event, Event::Tier { to: Tier::Good, .. })));
    assert!(room.seats[1].power > 0.01, "it is heard in the end");
}

#[test]
fn a_forced_tier_stays_whatever_is_lost() {
    let mut room = Room::new(12);
    room.join(config(), losing(0.3));
    room.join(config(), losing(0.0));
    let now = room.now;
    room.seats[0].call.set_tier(now, TierChoice::Fixed(Tier::Good));
    room.run(20.0);
    assert_eq!(room.seats[0].call.tier(), Tier::Good);
    room.seats[0].call.set_tier(room.now, TierChoice::Auto);
    room.run(10.0);
    assert!(room.seats[0].call.tier() > Tier::Good);
}

#[test]
fn every_sender_gets_a_report_from_every_listener_once_a_second() {
    let mut room = Room::new(13);
    for _ in 0..3 {
        room.join(config(), losing(0.0));
    }
    room.run(2.0);
    room.quality_reports.clear();
    room.seats.iter_mut().for_each(|seat| seat.reports.clear());
    room.run(30.0);
    for seat in &room.seats {
        let reports = seat.reports.len();
        assert!((56..=62).contains(&reports), "2 senders, 30 s: {reports}");
    }
    let coarse = room.quality_reports.len();
    assert!((84..=93).contains(&coarse), "3 members, 30 s: {coarse}");
}

#[test]
fn packets_that_come_twice_are_heard_once() {
    let mut room = Room::new(14);
    let twice = Profile {
        duplicate: 0.3,
        reorder_by: Duration::from_millis(15),
        ..losing(0.0)
    };
    room.join(config(), twice);
    room.join(config(), losing(0.0));
    room.run(20.0);
    let copies = room.seats[0].up.stats().duplicated;
    let counts = *room.seats[1].call.counts();
    assert!(
        copies > 200 && counts.duplicates + 10 > copies,
        "{copies} {counts:?}"
    );
    assert!(counts.received <= room.seats[0].call.counts().sent);
    assert_eq!(counts.unopened, 0);
}

#[test]
fn a_gap_is_told_to_the_relay_once() {
    let mut room = Room::new(15);
    room.join(config(), losing(0.0));
    room.join(config(), losing(0.0));
    room.run(4.0);
    room.seats[0].up.set_profile(losing(1.0));
    room.run(0.3);
    room.seats[0].up.set_profile(losing(0.0));
    room.quality_reports.clear();
    room.run(10.0);
    let gaps: Vec<_> = room
        .quality_reports
        .iter()
        .filter(|(from, report)| *from == 1 && report.longest_gap_ms > 0)
        .map(|(_, report)| report.longest_gap_ms)
        .collect();
    assert!(gaps.len() <= 2 && gaps.iter().any(|gap| *gap > 200), "{gaps:?}");
}
