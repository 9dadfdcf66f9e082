//! Several paths at once, and none.

use wzp_sdk_core::{
    call::{Event, MAX_DATAGRAM},
    carrier::{Carrier, Why},
    paths::{Kind, PathId},
};
use wzp_testkit::Profile;

use crate::room::{Room, TICK, config, id};

fn path_events(events: &[Event]) -> Vec<(PathId, Carrier, Why)> {
    let path = |event: &Event| match *event {
        Event::Path { id, carrier, why, .. } => Some((id, carrier, why)),
        _ => None,
    };
    events.iter().filter_map(path).collect()
}

#[test]
fn the_owner_is_told_of_each_change_of_path_or_carrier_once() {
    let mut room = Room::new(21);
    room.join(config(), Profile::default());
    let now = room.now;
    let (first, call) = (room.seats[0].path, &mut room.seats[0].call);
    let second = call.add_path(now, Kind::Relay, Carrier::QuicDatagram, Why::NotOffered);
    for _ in 0..3 {
        call.set_carrier(first, Carrier::Lane, Why::Answered);
    }
    call.set_carrier(second, Carrier::Lane, Why::Waiting);
    call.set_carrier(first, Carrier::QuicDatagram, Why::FellSilent);
    call.remove_path(now, first);
    call.remove_path(now, first);
    call.remove_path(now, second);
    let third = call.add_path(now, Kind::Relay, Carrier::Lane, Why::Waiting);
    room.seats[0].path = third;
    room.run(0.1);
    assert_eq!(
        path_events(&room.seats[0].events),
        [
            (first, Carrier::Lane, Why::Waiting),
            (first, Carrier::Lane, Why::Answered),
            (first, Carrier::QuicDatagram, Why::FellSilent),
            (second, Carrier::Lane, Why::Waiting),
            (third, Carrier::Lane, Why::Waiting),
        ]
    );
}

#[test]
fn a_packet_over_two_paths_is_heard_once_and_both_are_known_to_live() {
    let mut room = Room::new(22);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(2.0);
    let now = room.now;
    let [a, b] = &mut room.seats[..] else { panic!() };
    let call = &mut b.call;
    let second = call.add_path(now, Kind::Relay, Carrier::Lane, Why::Answered);
    let before = *call.counts();
    a.call.handle_capture(now, &[0.5; 480], 1.0);
    a.call.handle_capture(now, &[0.5; 480], 1.0);
    let mut out = [0; MAX_DATAGRAM];
    let (mut packets, mut paths) = (0, [second, b.path].into_iter().cycle());
    while let Some((_, len)) = a.call.poll_packet(now, &mut out) {
        packets += 1;
        // Each path is the faster one now and then.
        for path in paths.by_ref().take(2).collect::<Vec<_>>() {
            call.handle_datagram(now, path, &mut out[..len].to_vec());
        }
        paths.next();
    }
    assert!(packets > 0);
    let after = *call.counts();
    assert_eq!(after.received - before.received, packets);
    assert_eq!(after.duplicates - before.duplicates, packets);
    assert!(
        call.paths()
            .any(|state| state.path.id == second && state.path.heard == Some(now))
    );
}

#[test]
fn what_is_said_without_a_path_is_not_heard_later() {
    let mut room = Room::new(23);
    room.join(config(), Profile::default());
    room.join(config(), Profile::default());
    room.run(2.0);
    let (now, old) = (room.now, room.seats[0].path);
    room.seats[0].call.remove_path(now, old);
    room.run(1.0);
    let unsent = room.seats[0].call.counts().unsent;
    assert!((50..=62).contains(&unsent), "{unsent}");
    let sent = room.seats[0].call.counts().sent;
    let now = room.now;
    room.seats[0].path = room.seats[0]
        .call
        .add_path(now, Kind::Relay, Carrier::Lane, Why::Waiting);
    room.run(TICK.as_secs_f64() * 2.0);
    assert!(
        room.seats[0].call.counts().sent <= sent + 2,
        "no burst of what is old"
    );
    room.run(2.0);
    assert!(room.seats[1].power > 0.01, "{:?}", room.seats[1].remote(id(0)));
}
