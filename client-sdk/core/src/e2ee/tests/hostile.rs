//! A relay that lies: each lie is refused and named.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_wire::{RoomName, SenderId};

use super::relay::{Delivery, Relay, id, identity, seal};
use crate::e2ee::{Event, Group, MAX_MEMBERS, Misbehaviour, OpenError};

/// Three members who know each other, and everything that went between them.
fn room() -> Relay {
    let mut relay = Relay::new(1);
    for seed in 1..=3 {
        relay.join(seed);
    }
    relay.run_ms(1_000);
    relay.assert_all_hear_all();
    relay
}

fn announcement_of(relay: &Relay, raw: u16) -> Vec<u8> {
    relay.clients[&id(raw)].group.announcement().to_vec()
}

/// A genuine message of member 2 to member 1: it asks for a key.
fn message(relay: &mut Relay) -> Vec<u8> {
    let now = relay.now;
    relay.client(id(2)).group.handle_member_joined(now, id(1), &[]);
    let junk = vec![0; 60];
    relay.client(id(2)).open(now, id(1), junk);
    let mut forged = seal(&mut relay.client(id(1)).group, now, 1_234_560, b"x");
    *forged.last_mut().unwrap() ^= 1;
    relay.client(id(2)).open(now, id(1), forged);
    let at = relay.client(id(2)).group.poll_timeout().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    relay.client(id(2)).group.handle_timeout(at.max(now), &mut rng);
    let (to, message) = relay.client(id(2)).group.poll_transmit().unwrap();
    assert_eq!(to, id(1));
    message
}

#[track_caller]
fn assert_refused(relay: &mut Relay, delivery: Delivery, why: Misbehaviour) {
    relay.client(id(1)).events.clear();
    relay.deliver(id(1), delivery);
    assert_eq!(relay.refusals(id(1)), [why]);
}

#[test]
fn swapped_keys_in_an_announcement() {
    let mut relay = room();
    let mut bytes = announcement_of(&relay, 2);
    bytes[49..81].copy_from_slice(&[9; 32]);
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), bytes),
        Misbehaviour::BadSignature,
    );
    let mut bytes = announcement_of(&relay, 2);
    bytes[17..49].copy_from_slice(&identity(3).public().to_bytes());
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), bytes),
        Misbehaviour::BadSignature,
    );
}

#[test]
fn forged_and_oversized_joins() {
    let mut relay = room();
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), vec![1; 177]),
        Misbehaviour::WrongRoom,
    );
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), vec![1; 176]),
        Misbehaviour::Malformed,
    );
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), Vec::new()),
        Misbehaviour::Malformed,
    );
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), vec![1; 100_000]),
        Misbehaviour::Malformed,
    );
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), vec![2; 177]),
        Misbehaviour::Version,
    );
}

#[test]
fn an_announcement_for_another_room() {
    let mut relay = room();
    let other = RoomName::parse("boardroom").unwrap();
    let group = Group::new(&identity(4), &other, &mut ChaCha8Rng::seed_from_u64(1));
    let bytes = group.announcement().to_vec();
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), bytes),
        Misbehaviour::WrongRoom,
    );
}

#[test]
fn a_replayed_announcement_gets_no_second_member_and_no_key() {
    let mut relay = room();
    let bytes = announcement_of(&relay, 2);
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), bytes.clone()),
        Misbehaviour::ReplayedHandshake,
    );
    relay.leave(id(2));
    relay.run_ms(2_000);
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(2), bytes),
        Misbehaviour::ReplayedHandshake,
    );
    relay.run_ms(2_000);
    relay.speak(id(1), "not for two");
    relay.run_ms(500);
    assert!(relay.heard(id(3), "not for two") && !relay.heard(id(2), "not for two"));
}

/// A newcomer is told first of 9, who shows the announcement of 2.
fn newcomer_sees_a_copy_first(relay: &mut Relay) -> SenderId {
    let copied = announcement_of(relay, 2);
    let newcomer = relay.join(4);
    relay.deliver(newcomer, Delivery::MemberJoined(id(9), copied));
    newcomer
}

#[test]
fn a_copied_announcement_does_not_shut_out_its_owner() {
    let mut relay = room();
    let newcomer = newcomer_sees_a_copy_first(&mut relay);
    relay.run_ms(2_000);
    let client = &relay.clients[&newcomer];
    assert!(client.verified(id(2)) && !client.verified(id(9)));
    let named = Event::Refused {
        sender: id(9),
        why: Misbehaviour::ReplayedHandshake,
    };
    assert!(client.events.contains(&named), "{:?}", client.events);
    assert_eq!(relay.refusals(newcomer), [Misbehaviour::ReplayedHandshake]);
    relay.assert_all_hear_all();
    // Proven once, it belongs to nobody else, and to nobody at all when its owner has left.
    let copied = announcement_of(&relay, 2);
    for leaves in [false, true] {
        if leaves {
            relay.leave(id(2));
            relay.run_ms(1_000);
        }
        for sender in [9, 2] {
            relay.client(newcomer).events.clear();
            relay.deliver(newcomer, Delivery::MemberJoined(id(sender), copied.clone()));
            let refused = leaves || sender == 9;
            assert_eq!(relay.refusals(newcomer).len(), usize::from(refused));
        }
    }
}

#[test]
fn an_unproven_announcement_ends_with_the_last_who_shows_it() {
    let mut relay = room();
    let room = RoomName::parse("standup").unwrap();
    let old = Group::new(&identity(5), &room, &mut ChaCha8Rng::seed_from_u64(99));
    let bytes = old.announcement().to_vec();
    for sender in [8, 9] {
        relay.deliver(id(1), Delivery::MemberJoined(id(sender), bytes.clone()));
    }
    assert_eq!(relay.refusals(id(1)), []);
    for sender in [8, 9] {
        relay.deliver(id(1), Delivery::MemberLeft(id(sender)));
    }
    for sender in [8, 9, 10] {
        assert_refused(
            &mut relay,
            Delivery::MemberJoined(id(sender), bytes.clone()),
            Misbehaviour::ReplayedHandshake,
        );
    }
}

#[test]
fn whoever_shows_one_announcement_no_message_counter_comes_twice() {
    let mut relay = room();
    let room = RoomName::parse("standup").unwrap();
    let old = Group::new(&identity(5), &room, &mut ChaCha8Rng::seed_from_u64(99));
    let mut counters = Vec::new();
    for sender in [8, 9] {
        let (now, group) = (relay.now, &mut relay.client(id(1)).group);
        group.handle_member_joined(now, id(sender), old.announcement());
        while let Some((to, message)) = group.poll_transmit() {
            assert_eq!(to, id(sender));
            counters.push(message[33..41].to_vec());
        }
    }
    let sent = counters.len();
    counters.dedup();
    assert!(sent >= 2 && counters.len() == sent, "{counters:?}");
}

#[test]
fn our_own_announcement_reflected() {
    let mut relay = room();
    let bytes = announcement_of(&relay, 1);
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(9), bytes),
        Misbehaviour::Reflected,
    );
    let room = RoomName::parse("standup").unwrap();
    let other = Group::new(&identity(4), &room, &mut ChaCha8Rng::seed_from_u64(1));
    let bytes = other.announcement().to_vec();
    assert_refused(
        &mut relay,
        Delivery::MemberJoined(id(1), bytes),
        Misbehaviour::Reflected,
    );
}

#[test]
fn a_recorded_announcement_that_nobody_stands_behind_is_excluded() {
    let mut relay = room();
    // From an earlier call that these members did not see.
    let room = RoomName::parse("standup").unwrap();
    let old = Group::new(&identity(4), &room, &mut ChaCha8Rng::seed_from_u64(99));
    relay.deliver(id(1), Delivery::MemberJoined(id(9), old.announcement().to_vec()));
    let shown = |event: &Event| matches!(event, Event::MemberAnnounced { sender, .. } if *sender == id(9));
    assert!(relay.client(id(1)).events.iter().any(shown));
    let epoch = relay.clients[&id(1)].group.epoch();
    relay.run_ms(12_000);
    assert_eq!(relay.refusals(id(1)), [Misbehaviour::NeverConfirmed]);
    assert!(!relay.clients[&id(1)].verified(id(9)));
    assert_ne!(relay.clients[&id(1)].group.epoch(), epoch);
    relay.assert_all_hear_all();
}

#[test]
fn replayed_messages() {
    let mut relay = room();
    let message = message(&mut relay);
    relay.deliver(id(1), Delivery::Message(id(2), message.clone()));
    assert_eq!(relay.refusals(id(1)), []);
    assert_refused(
        &mut relay,
        Delivery::Message(id(2), message),
        Misbehaviour::ReplayedMessage,
    );
}

#[test]
fn swapped_senders_and_receivers() {
    let mut relay = room();
    let message = message(&mut relay);
    assert_refused(
        &mut relay,
        Delivery::Message(id(3), message.clone()),
        Misbehaviour::SwappedSender,
    );
    relay.deliver(id(1), Delivery::Message(id(9), message.clone()));
    let unknown = Event::Refused {
        sender: id(9),
        why: Misbehaviour::UnknownSender,
    };
    assert!(relay.client(id(1)).events.contains(&unknown));
    relay.deliver(id(3), Delivery::Message(id(2), message.clone()));
    assert_eq!(relay.refusals(id(3)), [Misbehaviour::Misdirected]);
    // None of which kept the genuine delivery from working.
    relay.client(id(1)).events.clear();
    relay.deliver(id(1), Delivery::Message(id(2), message));
    assert_eq!(relay.refusals(id(1)), []);
}

#[test]
fn tampered_messages() {
    let mut relay = room();
    let good = message(&mut relay);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        relay.client(id(1)).events.clear();
        relay.deliver(id(1), Delivery::Message(id(2), bad));
        let why = relay.refusals(id(1));
        let wanted = match at {
            0 => Misbehaviour::Version,
            1..17 => Misbehaviour::ReplayedHandshake,
            17..33 => Misbehaviour::Misdirected,
            _ => Misbehaviour::Tampered,
        };
        assert_eq!(why, [wanted], "byte {at}");
    }
    for len in 0..good.len() {
        relay.client(id(1)).events.clear();
        relay.deliver(id(1), Delivery::Message(id(2), good[..len].to_vec()));
        assert_eq!(relay.refusals(id(1)), [Misbehaviour::Malformed]);
    }
    assert_refused(
        &mut relay,
        Delivery::Message(id(2), vec![1; 4_097]),
        Misbehaviour::Malformed,
    );
}

#[test]
fn messages_of_an_old_handshake() {
    let mut relay = room();
    let old = message(&mut relay);
    relay.leave(id(2));
    relay.run_ms(500);
    // The same identity joins again, under the same id.
    let room = RoomName::parse("standup").unwrap();
    let again = Group::new(&identity(2), &room, &mut ChaCha8Rng::seed_from_u64(5));
    relay.deliver(
        id(1),
        Delivery::MemberJoined(id(2), again.announcement().to_vec()),
    );
    assert_refused(
        &mut relay,
        Delivery::Message(id(2), old),
        Misbehaviour::ReplayedHandshake,
    );
}

#[test]
fn reordered_messages_cost_nothing_but_a_question() {
    let mut relay = room();
    let first = message(&mut relay);
    relay.run_ms(2_000);
    let second = message(&mut relay);
    relay.deliver(id(1), Delivery::Message(id(2), second));
    assert_refused(
        &mut relay,
        Delivery::Message(id(2), first),
        Misbehaviour::ReplayedMessage,
    );
    relay.run_ms(2_000);
    relay.assert_all_hear_all();
}

#[test]
fn media_under_another_members_id_or_in_another_room() {
    let mut relay = room();
    let now = relay.now;
    let packet = seal(&mut relay.client(id(2)).group, now, 99_999_360, b"mine");
    relay.deliver(id(1), Delivery::Media(id(3), packet.clone()));
    assert_eq!(
        relay.client(id(1)).errors.last(),
        Some(&(id(3), OpenError::Failed))
    );
    assert_eq!(relay.clients[&id(1)].group.key_mismatches(id(3)), 1);
    relay.deliver(id(1), Delivery::Media(id(2), packet.clone()));
    assert!(relay.heard(id(1), "mine"));
    relay.deliver(id(1), Delivery::Media(id(2), packet));
    assert_eq!(
        relay.client(id(1)).errors.last(),
        Some(&(id(2), OpenError::Duplicate))
    );
}

#[test]
fn media_and_messages_of_another_room_with_the_same_members_and_ids() {
    let (mut relay, mut elsewhere) = (room(), Relay::new(2));
    for seed in 1..=3 {
        elsewhere.join(seed);
    }
    elsewhere.run_ms(1_000);
    let now = elsewhere.now;
    let packet = seal(&mut elsewhere.client(id(2)).group, now, 99_999_360, b"elsewhere");
    relay.deliver(id(1), Delivery::Media(id(2), packet));
    assert!(!relay.heard(id(1), "elsewhere"));
    let message = message(&mut elsewhere);
    assert_refused(
        &mut relay,
        Delivery::Message(id(2), message),
        Misbehaviour::ReplayedHandshake,
    );
    relay.run_ms(2_000);
    relay.assert_all_hear_all();
}

#[test]
fn changed_media_fails_at_every_bit_and_disturbs_nothing() {
    let mut relay = room();
    let now = relay.now;
    let good = seal(&mut relay.client(id(2)).group, now, 99_999_360, b"good");
    for at in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        relay.deliver(id(1), Delivery::Media(id(2), bad));
    }
    assert!(!relay.heard(id(1), "good"));
    relay.deliver(id(1), Delivery::Media(id(2), good));
    assert!(relay.heard(id(1), "good"));
    relay.run_ms(3_000);
    relay.assert_all_hear_all();
}

#[test]
fn questions_are_rate_limited_whatever_is_forged() {
    let mut relay = room();
    let now = relay.now;
    let mut forged = seal(&mut relay.client(id(2)).group, now, 99_999_360, b"x");
    *forged.last_mut().unwrap() ^= 1;
    relay.client(id(1)).events.clear();
    for _ in 0..300 {
        relay.deliver(id(1), Delivery::Media(id(2), forged.clone()));
        relay.run_ms(10);
    }
    let reports = relay
        .client(id(1))
        .events
        .iter()
        .filter(|event| matches!(event, Event::KeyMismatch { .. }));
    assert_eq!(reports.count(), 3);
    let asked = relay
        .client(id(2))
        .events
        .iter()
        .filter(|event| matches!(event, Event::Unheard { .. }));
    assert!((2..=4).contains(&asked.count()));
}

#[test]
fn rooms_have_a_last_seat() {
    let mut relay = Relay::new(1);
    let a = relay.join(1);
    relay.run_ms(100);
    let now = relay.now;
    let room = RoomName::parse("standup").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for raw in 0..=u16::try_from(MAX_MEMBERS).unwrap() {
        let group = Group::new(&identity(2), &room, &mut rng);
        relay
            .client(a)
            .group
            .handle_member_joined(now, id(raw + 2), group.announcement());
    }
    relay.client(a).drain(now);
    assert_eq!(relay.refusals(a), [Misbehaviour::TooManyMembers]);
}
