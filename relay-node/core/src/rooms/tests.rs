use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use proptest::prelude::*;
use rand_core::{TryRng, utils};
use wzp_wire::Level;

use super::*;
use crate::{Heard, NotForwarded, Origin, Targets, forward, overload::Shed};

/// A small generator of its own, so that a failing seed can be repeated.
pub(crate) struct Seeded(pub(crate) u64);

impl TryRng for Seeded {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|word| (word >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        utils::fill_bytes_via_next_word(out, || self.try_next_u64())
    }
}

pub(super) const NOW: Instant = Instant::from_micros(1_000_000);
const LOUD: Heard = Heard {
    level: Level::MAX,
    comfort_noise: false,
};

pub(super) fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

/// Of nobody else.
fn announcement() -> [u8; 4] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Relaxed).to_be_bytes()
}

fn direct(port: u32) -> Member<u32> {
    Member::new(&announcement(), false, Via::Direct(port))
}

fn trunk_via(trunk: u64, port: u32) -> Via<u32> {
    let id = TrunkId(trunk);
    Via::Trunk { id, port, handle: 0 }
}

fn behind(trunk: u64, port: u32) -> Member<u32> {
    Member::new(&announcement(), false, trunk_via(trunk, port))
}

fn rooms(config: Config) -> (Rooms<u32>, Seeded) {
    (Rooms::new(config), Seeded(1))
}

fn snapshot(rooms: &Rooms<u32>, name: &RoomName) -> FanOut<u32> {
    rooms
        .rooms
        .get(name)
        .unwrap()
        .fan_out(rooms.config.speakers.above)
}

fn ports(fan_out: &FanOut<u32>, from: SenderId) -> Result<Vec<u32>, NotForwarded> {
    let mut targets = Targets::default();
    forward(
        fan_out,
        from,
        Origin::Here,
        LOUD,
        NOW,
        Shed::NOTHING,
        &mut targets,
    )?;
    Ok(targets
        .as_slice()
        .iter()
        .map(|&at| fan_out.outlets()[usize::from(at)].port)
        .collect())
}

#[test]
fn limits_of_rooms_and_members_are_kept_and_leaving_makes_room() {
    let (mut rooms, mut rng) = rooms(Config {
        rooms: 2,
        members: 2,
        ..Config::default()
    });
    let mut join =
        |rooms: &mut Rooms<u32>, name: &str| rooms.join(NOW, &mut rng, &room(name), None, direct(1));
    let first = join(&mut rooms, "a").unwrap();
    join(&mut rooms, "a").unwrap();
    assert_eq!(join(&mut rooms, "a"), Err(JoinError::RoomFull));
    join(&mut rooms, "b").unwrap();
    assert_eq!(join(&mut rooms, "c"), Err(JoinError::TooManyRooms));
    assert_eq!((rooms.room_count(), rooms.member_count()), (2, 3));
    assert!(rooms.leave(NOW, &room("a"), first).is_some());
    assert!(rooms.leave(NOW, &room("a"), first).is_none());
    join(&mut rooms, "a").unwrap();
}

#[test]
fn a_full_room_comes_in_at_once_twice_and_churn_is_held_to_a_rate() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let (name, other) = (room("a"), room("b"));
    let mut join = |rooms: &mut Rooms<u32>, name: &RoomName, at| {
        let member = direct(1);
        rooms.admit(at, name, &member.announcement)?;
        rooms.join(at, &mut rng, name, None, member)
    };
    let stays = join(&mut rooms, &name, NOW).unwrap();
    join(&mut rooms, &other, NOW).unwrap();
    for _ in 0..2 {
        let all: Vec<_> = (1..1_000)
            .map(|_| join(&mut rooms, &name, NOW).unwrap())
            .collect();
        assert_eq!(join(&mut rooms, &name, NOW), Err(JoinError::RoomFull));
        for sender in all {
            rooms.leave(NOW, &name, sender).unwrap();
        }
    }
    let mut churn = |rooms: &mut Rooms<u32>, at| {
        let joined = join(rooms, &name, at).map(|sender| rooms.leave(at, &name, sender));
        joined.map(|_| ())
    };
    let left = (0..30_000).filter(|_| churn(&mut rooms, NOW).is_ok()).count();
    assert_eq!(left, 3_000 - 2 * 999);
    let wait = Duration::from_millis(50);
    assert_eq!(churn(&mut rooms, NOW), Err(JoinError::TooManyJoins(wait)));
    assert_eq!(churn(&mut rooms, NOW + wait), Ok(()));
    assert!(rooms.member(&name, stays).is_some());
    // Nobody else's room is held up.
    assert_eq!(rooms.admit(NOW, &other, b"x"), Ok(()));
}

#[test]
fn an_announcement_is_good_for_one_member_of_a_room() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let name = room("a");
    let copied = |via| Member::new(b"copied", false, via);
    let taken = Err(JoinError::AnnouncementInUse);
    let sender = rooms
        .join(NOW, &mut rng, &name, None, copied(Via::Direct(1)))
        .unwrap();
    for via in [Via::Direct(2), trunk_via(5, 50)] {
        assert_eq!(rooms.admit(NOW, &name, b"copied"), taken.map(|_: SenderId| ()));
        assert_eq!(rooms.join(NOW, &mut rng, &name, None, copied(via)), taken);
    }
    assert!(rooms.rebind(NOW, &name, sender, trunk_via(5, 50)));
    assert_eq!(
        rooms.join(NOW, &mut rng, &name, None, copied(Via::Direct(2))),
        taken
    );
    rooms
        .join(NOW, &mut rng, &room("b"), None, copied(Via::Direct(2)))
        .unwrap();
    rooms.leave(NOW, &name, sender).unwrap();
    assert!(
        rooms
            .join(NOW, &mut rng, &name, None, copied(Via::Direct(2)))
            .is_ok()
    );
}

#[test]
fn a_preferred_number_is_given_if_it_is_free() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let wanted = SenderId::new(77);
    let name = room("a");
    assert_eq!(rooms.join(NOW, &mut rng, &name, wanted, direct(1)).ok(), wanted);
    assert_ne!(rooms.join(NOW, &mut rng, &name, wanted, direct(2)).ok(), wanted);
}

#[test]
fn an_echo_member_hears_itself_and_others_do_not() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let name = room("a");
    let echo = Member {
        echo: true,
        ..direct(1)
    };
    let mirror = rooms.join(NOW, &mut rng, &name, None, echo).unwrap();
    let plain = rooms.join(NOW, &mut rng, &name, None, direct(2)).unwrap();
    let fan_out = snapshot(&rooms, &name);
    assert_eq!(
        ports(&fan_out, mirror).map(BTreeSet::from_iter),
        Ok(BTreeSet::from([1, 2]))
    );
    assert_eq!(ports(&fan_out, plain), Ok(vec![1]));
}

#[test]
fn a_trunk_gets_one_copy_and_nothing_of_its_own() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let name = room("a");
    let mut join = |member| rooms.join(NOW, &mut rng, &name, None, member).unwrap();
    let local = join(direct(1));
    let far: Vec<_> = (0..3).map(|_| join(behind(5, 50))).collect();
    join(behind(6, 60));
    let fan_out = snapshot(&rooms, &name);
    assert_eq!(ports(&fan_out, local), Ok(vec![50, 60]));
    assert_eq!(
        ports(&fan_out, far[0]).map(BTreeSet::from_iter),
        Ok(BTreeSet::from([1, 60]))
    );
    let handles: BTreeSet<_> = fan_out
        .sources()
        .iter()
        .map(|source| source.handle.unwrap())
        .collect();
    assert_eq!(handles.len(), 5);
    assert!(handles.iter().all(|&handle| Side::Upstream.owns(handle)));
    for source in fan_out.sources() {
        let (of, sender) = rooms.of_handle(source.handle.unwrap()).unwrap();
        assert_eq!((of, *sender), (&name, source.sender));
    }
    assert_eq!(rooms.behind(TrunkId(5)).len(), 3);
    for sender in far {
        rooms.leave(NOW, &name, sender);
    }
    assert!(!rooms.has_trunk(&name, TrunkId(5)));
    assert_eq!(ports(&snapshot(&rooms, &name), local), Ok(vec![60]));
}

#[test]
fn a_member_reached_another_way_keeps_number_and_handle() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let name = room("a");
    let local = rooms.join(NOW, &mut rng, &name, None, direct(1)).unwrap();
    let far = rooms.join(NOW, &mut rng, &name, None, behind(5, 50)).unwrap();
    let handle = rooms.member(&name, far).unwrap().handle;
    assert!(rooms.rebind(NOW, &name, far, trunk_via(6, 60)));
    assert!(!rooms.has_trunk(&name, TrunkId(5)));
    assert_eq!(rooms.member(&name, far).unwrap().handle, handle);
    assert_eq!(ports(&snapshot(&rooms, &name), local), Ok(vec![60]));
    assert_eq!(rooms.behind(TrunkId(6)).len(), 1);
}

#[test]
fn downstream_only_members_of_ours_have_handles() {
    let (mut rooms, mut rng) = rooms(Config {
        side: Side::Downstream,
        ..Config::default()
    });
    let name = room("a");
    let local = rooms.join(NOW, &mut rng, &name, None, direct(1)).unwrap();
    let far = rooms.join(NOW, &mut rng, &name, None, behind(1, 9)).unwrap();
    assert!(rooms.member(&name, local).unwrap().handle.is_some());
    assert_eq!(rooms.member(&name, far).unwrap().handle, None);
}

#[test]
fn the_first_change_is_published_at_once_and_those_after_it_together() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let name = room("a");
    rooms.join(NOW, &mut rng, &name, None, direct(1)).unwrap();
    assert_eq!(rooms.poll_timeout(), Some(NOW));
    assert_eq!(rooms.poll_publish(NOW).unwrap().1.sources().len(), 1);
    assert!(rooms.poll_publish(NOW).is_none());
    let soon = NOW + Duration::from_millis(1);
    let due = NOW + Duration::from_millis(10);
    for port in 2..50 {
        rooms.join(soon, &mut rng, &name, None, direct(port)).unwrap();
    }
    assert!(rooms.poll_publish(soon).is_none());
    assert_eq!(rooms.poll_timeout(), Some(due));
    assert_eq!(rooms.poll_publish(due).unwrap().1.sources().len(), 49);
    assert!(rooms.poll_publish(due).is_none());
    assert_eq!(rooms.poll_timeout(), None);
}

#[test]
fn the_last_snapshot_of_a_room_is_empty() {
    let (mut rooms, mut rng) = rooms(Config::default());
    let sender = rooms.join(NOW, &mut rng, &room("a"), None, direct(1)).unwrap();
    rooms.poll_publish(NOW);
    let later = NOW + Duration::from_secs(1);
    rooms.leave(later, &room("a"), sender);
    let (name, fan_out) = rooms.poll_publish(later).unwrap();
    assert_eq!((name, fan_out.outlets().len()), (room("a"), 0));
    assert_eq!(ports(&fan_out, sender), Err(NotForwarded::UnknownSender));
}

#[test]
fn an_overloaded_relay_forwards_the_loudest_of_small_rooms_too() {
    for (above, not_heard) in [(8, None), (1, Some(NotForwarded::NotLoudest))] {
        let speakers = speakers::Config { above, loudest: 1 };
        let (mut rooms, mut rng) = rooms(Config {
            speakers,
            ..Config::default()
        });
        let mut join = |port| rooms.join(NOW, &mut rng, &room("a"), None, direct(port)).unwrap();
        let (first, second) = (join(1), join(2));
        let fan_out = snapshot(&rooms, &room("a"));
        let mut targets = Targets::default();
        let mut speak = |from, shed| forward(&fan_out, from, Origin::Here, LOUD, NOW, shed, &mut targets);
        assert_eq!(speak(first, Shed::MOST), Ok(()));
        assert_eq!(speak(second, Shed::MOST), Err(NotForwarded::Shed));
        assert_eq!(speak(second, Shed::NOTHING).err(), not_heard);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join { room: u8, trunk: Option<u8>, echo: bool },
    Leave { member: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8, proptest::option::weighted(0.3, 0..2u8), any::<bool>())
            .prop_map(|(room, trunk, echo)| Step::Join { room, trunk, echo }),
        1 => any::<usize>().prop_map(|member| Step::Leave { member }),
    ]
}

proptest! {
    /// Ports name (room, member or trunk), so that a copy in the wrong place shows.
    #[test]
    fn packets_stay_in_their_room_and_do_not_come_back(
        steps in prop::collection::vec(step(), 1..80),
        seed in any::<u64>(),
        above in 0..12usize,
    ) {
        let config = Config { speakers: speakers::Config { above, loudest: 3 }, ..Config::default() };
        let (mut rooms, mut rng) = (Rooms::new(config), Seeded(seed));
        let mut there: Vec<(u8, SenderId, u32, bool)> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Join { room: r, trunk, echo } => {
                    let base = u32::from(r) * 10_000;
                    let (port, via) = match trunk {
                        Some(t) => (base + u32::from(t), trunk_via(t.into(), base + u32::from(t))),
                        None => (base + 100 + n as u32, Via::Direct(base + 100 + n as u32)),
                    };
                    let member = Member::new(&announcement(), echo, via);
                    let sender = rooms.join(NOW, &mut rng, &room(&r.to_string()), None, member).unwrap();
                    there.push((r, sender, port, echo && trunk.is_none()));
                }
                Step::Leave { member } if !there.is_empty() => {
                    let (r, sender, ..) = there.swap_remove(member % there.len());
                    prop_assert!(rooms.leave(NOW, &room(&r.to_string()), sender).is_some());
                }
                Step::Leave { .. } => {}
            }
        }
        prop_assert_eq!(rooms.member_count(), there.len());
        for &(r, sender, port, echo) in &there {
            let name = room(&r.to_string());
            let others = there.iter().filter(|other| other.0 == r && other.2 != port).map(|other| other.2);
            let mut expected: BTreeSet<u32> = others.collect();
            expected.extend(echo.then_some(port));
            let first = ports(&snapshot(&rooms, &name), sender);
            match first {
                Ok(targets) => {
                    prop_assert_eq!(targets.iter().copied().collect::<BTreeSet<_>>(), expected);
                    prop_assert_eq!(ports(&snapshot(&rooms, &name), sender), Ok(targets));
                }
                Err(error) => prop_assert_eq!(error, NotForwarded::NotLoudest),
            }
        }
    }
}
