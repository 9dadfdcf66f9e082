//! Honest relays: joins, leaves, loss, size.

use wzp_wire::{Instant, Kind};

use super::relay::{Delivery, Relay, header, id, seal};
use crate::e2ee::{EAGER_ROOM, Event, OVERHEAD, OpenError};

#[test]
fn everybody_hears_and_verifies_everybody_while_members_come_and_go() {
    for seed in 0..20 {
        let mut relay = Relay::new(seed);
        for member in 0..4 {
            relay.join(member);
        }
        relay.run_ms(500);
        relay.assert_all_hear_all();
        for round in 0u8..6 {
            // At once: a leave, a join and speech, all crossing on the way.
            let leaver = relay.present()[usize::from(round) % 3];
            relay.leave(leaver);
            relay.join(10 + round);
            for who in relay.present() {
                relay.speak(who, "meanwhile");
            }
            relay.run_ms(700);
            relay.assert_all_hear_all();
        }
        for who in relay.present() {
            assert_eq!(relay.refusals(who), [], "seed {seed}");
            for other in relay.present() {
                assert!(who == other || relay.clients[&who].verified(other), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_member_who_left_opens_nothing_after_the_new_epoch() {
    let mut relay = Relay::new(1);
    let members: Vec<_> = (0..4).map(|seed| relay.join(seed)).collect();
    relay.run_ms(500);
    relay.assert_all_hear_all();
    relay.leave(members[3]);
    relay.run_ms(1_500);
    relay.speak(members[0], "without the fourth");
    relay.run_ms(200);
    assert!(relay.heard(members[1], "without the fourth"));
    assert!(!relay.heard(members[3], "without the fourth"));
    let (from, error) = *relay.clients[&members[3]].errors.last().unwrap();
    assert_eq!((from, error), (members[0], OpenError::NoKeyYet));
}

#[test]
fn a_newcomer_opens_nothing_of_the_past() {
    let mut relay = Relay::new(2);
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(500);
    for _ in 0..10 {
        relay.speak(a, "before");
    }
    relay.run_ms(500);
    let past = relay.client(b).captured.clone();
    assert_eq!(past.len(), 10);
    let c = relay.join(3);
    relay.run_ms(500);
    relay.speak(a, "after");
    relay.run_ms(500);
    assert!(relay.heard(c, "after"));
    for (from, packet) in past {
        let now = relay.now;
        relay.client(c).open(now, from, packet);
    }
    assert!(!relay.heard(c, "before"));
    let named = |error: &OpenError| matches!(error, OpenError::OldEpoch | OpenError::UnknownContext);
    assert_eq!(
        relay
            .client(c)
            .errors
            .iter()
            .filter(|(_, error)| named(error))
            .count(),
        10
    );
}

#[test]
fn many_joins_within_one_generation_and_beyond_it() {
    let mut relay = Relay::new(3);
    relay.join(0);
    for member in 1..20 {
        relay.join(member);
        for who in relay.present() {
            relay.speak(who, "all the time");
        }
        relay.run_ms(40);
    }
    relay.run_ms(3_000);
    relay.assert_all_hear_all();
    assert!(relay.present().iter().all(|who| relay.refusals(*who).is_empty()));
}

#[test]
fn more_generations_than_the_epoch_byte_tells_apart() {
    let mut relay = Relay::new(4);
    let (a, b) = (relay.join(1), relay.join(2));
    for round in 0..70 {
        let guest = relay.join(3);
        relay.run_ms(300);
        relay.leave(guest);
        relay.run_ms(1_200);
        relay.speak(a, &format!("round {round}"));
        relay.run_ms(200);
        assert!(
            relay.heard(b, &format!("round {round}")),
            "{:?}",
            relay.clients[&b].errors.last()
        );
        assert!(!relay.heard(guest, &format!("round {round}")));
    }
    assert!(relay.clients[&b].group.key_mismatches(a) == 0);
}

#[test]
fn leaves_within_a_second_are_one_epoch() {
    let mut relay = Relay::new(5);
    relay.delay_ms = 1..2;
    let members: Vec<_> = (0..12).map(|seed| relay.join(seed)).collect();
    relay.run_ms(2_000);
    relay.client(members[0]).events.clear();
    for leaver in &members[2..] {
        relay.leave(*leaver);
        relay.run_ms(80);
    }
    relay.run_ms(2_000);
    let changes = relay
        .client(members[0])
        .events
        .iter()
        .filter(|event| matches!(event, Event::EpochChanged { .. }));
    assert_eq!(changes.count(), 2);
    relay.assert_all_hear_all();
}

#[test]
fn an_old_key_is_good_for_ten_seconds_after_the_new_one() {
    let mut relay = Relay::new(6);
    let members: Vec<_> = (0..3).map(|seed| relay.join(seed)).collect();
    relay.run_ms(500);
    let now = relay.now;
    let early: Vec<_> = (1..=2)
        .map(|n| seal(&mut relay.client(members[0]).group, now, n * 960, b"early"))
        .collect();
    relay.leave(members[2]);
    relay.run_ms(1_000);
    relay.speak(members[0], "new epoch");
    relay.run_ms(100);
    relay.run_ms(9_000);
    relay.deliver(members[1], Delivery::Media(members[0], early[0].clone()));
    assert!(relay.heard(members[1], "early"));
    relay.run_ms(1_500);
    relay.deliver(members[1], Delivery::Media(members[0], early[1].clone()));
    assert_eq!(
        relay.client(members[1]).errors.last(),
        Some(&(members[0], OpenError::OldEpoch))
    );
}

#[test]
fn an_old_key_of_a_silent_talker_ends_as_well() {
    let mut relay = Relay::new(17);
    let members: Vec<_> = (0..3).map(|seed| relay.join(seed)).collect();
    relay.run_ms(500);
    relay.assert_all_hear_all();
    let now = relay.now;
    // What the third makes of its copy of the key, and the relay delivers for it.
    let forged: Vec<_> = (90..93)
        .map(|n| seal(&mut relay.client(members[0]).group, now, n * 960, b"forged"))
        .collect();
    relay.leave(members[2]);
    relay.run_ms(20_000);
    relay.deliver(members[1], Delivery::Media(members[0], forged[0].clone()));
    assert!(
        relay.heard(members[1], "forged"),
        "a key that is handed out slowly is not in use yet"
    );
    relay.run_ms(12_000);
    relay.client(members[1]).heard.clear();
    for packet in &forged[1..] {
        relay.deliver(members[1], Delivery::Media(members[0], packet.clone()));
        assert_eq!(
            relay.client(members[1]).errors.last(),
            Some(&(members[0], OpenError::OldEpoch))
        );
        relay.run_ms(1_000);
    }
    assert!(!relay.heard(members[1], "forged"));
    relay.assert_all_hear_all();
}

#[test]
fn large_rooms_hand_out_keys_at_first_speech() {
    let mut relay = Relay::new(7);
    let size = EAGER_ROOM + 14;
    for member in 0..size {
        relay.join(u8::try_from(member).unwrap());
        relay.run_ms(100);
    }
    relay.run_ms(12_000);
    let last = id(u16::try_from(size).unwrap());
    assert!(!relay.clients[&last].verified(id(60)));
    relay.speak(last, "first words");
    relay.run_ms(1_000);
    for who in relay.present() {
        assert_eq!(relay.refusals(who), []);
        assert!(who == last || relay.heard(who, "first words"));
        assert!(who == last || relay.clients[&who].verified(last));
    }
    let newcomer = relay.join(200);
    relay.run_ms(500);
    relay.leave(id(3));
    relay.run_ms(500);
    relay.speak(last, "later words");
    relay.run_ms(2_000);
    relay.speak(last, "last words");
    relay.run_ms(2_000);
    assert!(!relay.heard(newcomer, "first words") && relay.heard(newcomer, "later words"));
    assert!(!relay.heard(id(3), "last words") && relay.heard(id(4), "last words"));
}

#[test]
fn lossy_media_with_reordering_and_duplicates() {
    let mut relay = Relay::new(8);
    (relay.lost, relay.doubled) = (200, 200);
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(500);
    for packet in 0..1_000 {
        relay.speak(a, &format!("packet {packet}"));
        relay.run_ms(20);
        if packet == 500 {
            relay.join(3);
        }
    }
    relay.run_ms(500);
    let mut heard: Vec<_> = relay.client(b).heard.clone();
    let count = heard.len();
    assert!((700..900).contains(&count), "{count}");
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), count, "opened twice");
    assert!(
        relay
            .client(b)
            .errors
            .iter()
            .any(|(_, error)| *error == OpenError::Duplicate)
    );
    assert!(
        relay
            .client(b)
            .errors
            .iter()
            .all(|(_, error)| *error != OpenError::Failed)
    );
}

#[test]
fn a_packet_that_overtakes_its_key_waits() {
    let mut relay = Relay::new(9);
    relay.delay_ms = 300..301;
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(301);
    let now = relay.now;
    let early = seal(&mut relay.client(a).group, now, 960, b"early");
    relay.deliver(b, Delivery::Media(a, early));
    assert_eq!(relay.client(b).errors, [(a, OpenError::NoKeyYet)]);
    relay.run_ms(400);
    assert!(relay.heard(b, "early"));
}

#[test]
fn asking_again_heals_a_lost_key_and_nobody_is_deaf_in_silence() {
    let mut relay = Relay::new(10);
    let members: Vec<_> = (0..3).map(|seed| relay.join(seed)).collect();
    relay.run_ms(500);
    relay.assert_all_hear_all();
    relay.drops = |delivery| matches!(delivery, Delivery::Message(..));
    relay.leave(members[2]);
    relay.run_ms(2_000);
    for _ in 0..5 {
        relay.speak(members[0], "lost");
        relay.run_ms(300);
    }
    relay.run_ms(2_000);
    assert!(!relay.heard(members[1], "lost"));
    assert!(relay.clients[&members[1]].group.key_mismatches(members[0]) >= 4);
    let told = |event: &Event| matches!(event, Event::KeyMismatch { sender, .. } if *sender == id(1));
    assert!(relay.client(members[1]).events.iter().any(told));
    relay.drops = |_| false;
    for _ in 0..3 {
        relay.speak(members[0], "asked for");
        relay.run_ms(600);
    }
    relay.run_ms(2_000);
    assert!(relay.heard(members[1], "asked for"));
    relay.assert_all_hear_all();
    let told = |event: &Event| matches!(event, Event::Unheard { sender, .. } if *sender == id(2));
    assert!(relay.client(members[0]).events.iter().any(told));
}

#[test]
fn missing_many_generations_is_not_taken_for_old_packets() {
    let mut relay = Relay::new(16);
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(500);
    relay.assert_all_hear_all();
    relay.drops = |delivery| matches!(delivery, Delivery::Message(from, _) if from.get() == 1);
    for _ in 0..20 {
        let guest = relay.join(3);
        relay.run_ms(600);
        relay.leave(guest);
        relay.run_ms(1_000);
    }
    relay.drops = |_| false;
    for _ in 0..20 {
        relay.speak(a, "twenty later");
        relay.run_ms(100);
    }
    relay.run_ms(1_000);
    assert!(relay.heard(b, "twenty later"), "{:?}", relay.client(b).errors);
}

#[test]
fn a_silent_hour_does_not_lose_the_counter() {
    let mut relay = Relay::new(11);
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(500);
    relay.assert_all_hear_all();
    // As after an hour below the loudness threshold of a large room: sealed, never forwarded.
    relay.client(a).group.sealer().jump(400_000);
    for _ in 0..10 {
        relay.speak(a, "back");
        relay.run_ms(200);
    }
    assert!(relay.heard(b, "back"), "{:?}", relay.client(b).events);
}

#[test]
fn two_devices_with_one_identity() {
    let mut relay = Relay::new(12);
    for seed in [1, 1, 2] {
        relay.join(seed);
    }
    relay.run_ms(500);
    relay.assert_all_hear_all();
    assert!(relay.present().iter().all(|who| relay.refusals(*who).is_empty()));
}

#[test]
fn an_echoed_packet_is_opened_by_its_sender_in_every_epoch() {
    let mut relay = Relay::new(13);
    let a = relay.join(1);
    relay.run_ms(100);
    for round in 0..12u8 {
        let now = relay.now;
        let packet = seal(&mut relay.client(a).group, now, 960 * u32::from(round), &[round]);
        relay.deliver(a, Delivery::Media(a, packet));
        assert_eq!(relay.client(a).heard.last(), Some(&(a, vec![round])));
        let guest = relay.join(2);
        relay.run_ms(200);
        if round % 2 == 0 {
            relay.leave(guest);
        }
        relay.run_ms(1_500);
    }
}

#[test]
fn repair_packets_have_their_own_counter_and_key() {
    let mut relay = Relay::new(14);
    relay.delay_ms = 5..6;
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(500);
    let now = relay.now;
    for n in 0..20u32 {
        for kind in [Kind::Source, Kind::Repair, Kind::ComfortNoise] {
            let mut out = [0; 64];
            let mut header = header(n * 960, kind);
            let len = relay
                .client(a)
                .group
                .seal(now, &mut header, b"text", &mut out)
                .unwrap();
            let opened = relay.client(b).group.open(now, a, &mut out[..len]).unwrap();
            assert_eq!((opened.header, opened.payload), (header, b"text".as_slice()));
            let wanted = match kind {
                Kind::Source => 2 * n,
                Kind::ComfortNoise => 2 * n + 1,
                Kind::Repair => n,
            };
            assert_eq!(opened.counter, u64::from(wanted));
        }
    }
    let small = relay.client(a).group.seal(
        now,
        &mut header(0, Kind::Source),
        &[0; 10],
        &mut [0; 9 + OVERHEAD],
    );
    assert!(small.is_err());
}

#[test]
fn an_idle_group_has_no_timer() {
    let mut relay = Relay::new(15);
    let (a, b) = (relay.join(1), relay.join(2));
    relay.run_ms(3_000);
    assert_eq!(relay.clients[&a].group.poll_timeout(), None::<Instant>);
    assert_eq!(relay.clients[&b].group.poll_timeout(), None);
}
