use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use wzp_wire::Level;

use super::*;
use crate::{
    FanOut, Heard, NotForwarded, Origin, Targets, To, forward, overload::Shed, rooms::Config, trunk::Side,
};

const NOW: Instant = Instant::from_micros(1_000_000);
const LATER: Instant = Instant::from_micros(3_000_000);

fn room() -> RoomName {
    RoomName::parse("room").unwrap()
}

fn sender(id: u16) -> SenderId {
    SenderId::new(id).unwrap()
}

fn rooms() -> Rooms<u64> {
    let side = Side::Downstream;
    Rooms::new(Config {
        side,
        ..Config::default()
    })
}

fn behind(trunk: u64) -> Behind<u64> {
    Behind {
        trunk: TrunkId(trunk),
        port: 1_000 + trunk,
        handle: 7,
    }
}

/// The port of member `id` is `id`; its announcement too.
fn enter(rooms: &mut Rooms<u64>, now: Instant, id: u16, standby: bool) -> Change<u64> {
    let newcomer = Newcomer {
        sender: sender(id),
        announcement: &id.to_be_bytes(),
        echo: false,
        carries: if standby {
            Carries::Standby
        } else {
            Carries::Since(now)
        },
    };
    rooms.enter(now, &room(), &newcomer, id.into()).unwrap()
}

fn bring(rooms: &mut Rooms<u64>, id: u16, trunk: u64) -> Change<u64> {
    let announcement = id.to_be_bytes();
    rooms
        .bring(NOW, &room(), sender(id), &announcement, behind(trunk))
        .unwrap()
}

fn snapshot(rooms: &mut Rooms<u64>, now: Instant) -> FanOut<u64> {
    rooms.poll_publish(now + Duration::from_millis(10)).unwrap().1
}

fn heard_by(fan_out: &FanOut<u64>, id: u16, origin: Origin, now: Instant) -> Result<Vec<u64>, NotForwarded> {
    let heard = Heard {
        level: Level::MAX,
        comfort_noise: false,
    };
    let mut targets = Targets::default();
    forward(
        fan_out,
        sender(id),
        origin,
        heard,
        now,
        Shed::NOTHING,
        &mut targets,
    )?;
    let ports = targets
        .as_slice()
        .iter()
        .map(|&at| fan_out.outlets()[usize::from(at)].port);
    let mut ports: Vec<_> = ports.collect();
    ports.sort_unstable();
    Ok(ports)
}

#[test]
fn standby_members_hear_who_is_standby_or_fresh_and_peers_hear_everybody_of_ours() {
    let mut rooms = rooms();
    enter(&mut rooms, NOW, 1, false);
    enter(&mut rooms, NOW, 2, false);
    enter(&mut rooms, NOW, 3, true);
    enter(&mut rooms, NOW, 4, true);
    bring(&mut rooms, 5, 0);
    let fan_out = snapshot(&mut rooms, NOW);
    let here = |id, now| heard_by(&fan_out, id, Origin::Here, now).unwrap();
    let almost = LATER - Duration::from_micros(1);
    assert_eq!(here(1, almost), [2, 3, 4, 1_000]);
    assert_eq!(here(1, LATER), [2, 1_000]);
    assert_eq!(here(3, LATER), [1, 2, 4, 1_000]);
    let peer = heard_by(&fan_out, 5, Origin::Peer, NOW).unwrap();
    assert_eq!(peer, [1, 2]);
}

#[test]
fn who_changes_the_relay_is_fresh_again_and_who_says_so_twice_is_not() {
    let mut rooms = rooms();
    enter(&mut rooms, NOW, 1, true);
    enter(&mut rooms, NOW, 2, true);
    assert!(rooms.carry(LATER, &room(), sender(1), true));
    let second = LATER + Duration::from_secs(1);
    rooms.carry(second, &room(), sender(1), true);
    let fan_out = snapshot(&mut rooms, second);
    let until = LATER + Duration::from_secs(2);
    let almost = until - Duration::from_micros(1);
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, almost), Ok(vec![2]));
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, until), Ok(vec![]));
    assert_eq!(heard_by(&fan_out, 2, Origin::Here, until), Ok(vec![1]));
    rooms.carry(until, &room(), sender(1), false);
    let fan_out = snapshot(&mut rooms, until);
    assert_eq!(heard_by(&fan_out, 2, Origin::Here, until), Ok(vec![1]));
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, until), Ok(vec![2]));
    assert!(!rooms.carry(until, &room(), sender(9), true));
}

#[test]
fn a_member_here_and_behind_peers_is_one_and_leaves_when_it_is_gone_from_all() {
    let mut rooms = rooms();
    assert!(bring(&mut rooms, 1, 0).came);
    assert!(!bring(&mut rooms, 1, 1).came);
    let change = enter(&mut rooms, NOW, 1, true);
    assert!(!change.came && change.before.is_none() && change.replaced.is_none());
    let again = enter(&mut rooms, NOW, 1, true);
    assert_eq!((again.came, again.before), (false, Some(1)));
    assert!(rooms.member(&room(), sender(1)).unwrap().handle.is_some());
    assert_eq!((rooms.member_count(), rooms.direct_count(&room())), (1, 1));
    assert!(rooms.take_away(NOW, &room(), sender(1), TrunkId(0)).is_none());
    assert!(rooms.exit(NOW, &room(), sender(1)).is_none());
    assert_eq!(rooms.member(&room(), sender(1)).unwrap().handle, None);
    assert!(rooms.take_away(NOW, &room(), sender(1), TrunkId(0)).is_none());
    assert!(rooms.take_away(NOW, &room(), sender(1), TrunkId(1)).is_some());
    assert_eq!((rooms.member_count(), rooms.room_count()), (0, 0));
    assert!(rooms.exit(NOW, &room(), sender(1)).is_none());
}

#[test]
fn a_new_join_under_a_number_replaces_the_old_one_but_hearsay_does_not() {
    let mut rooms = rooms();
    enter(&mut rooms, NOW, 1, false);
    let newcomer = Newcomer {
        sender: sender(1),
        announcement: b"new",
        echo: false,
        carries: Carries::Since(NOW),
    };
    let change = rooms.enter(NOW, &room(), &newcomer, 77).unwrap();
    assert!(change.came && change.replaced.is_some());
    assert_eq!((change.before, rooms.member_count()), (Some(1), 1));
    let hearsay = rooms.bring(NOW, &room(), sender(1), b"other", behind(0));
    assert_eq!(hearsay.unwrap_err(), JoinError::AnnouncementInUse);
    bring(&mut rooms, 2, 0);
    let change = rooms.bring(NOW, &room(), sender(2), b"newer", behind(1)).unwrap();
    assert!(change.came && change.replaced.is_some());
    let twice = rooms.bring(NOW, &room(), sender(3), b"newer", behind(1));
    assert_eq!(twice.unwrap_err(), JoinError::AnnouncementInUse);
}

#[test]
fn nothing_goes_to_a_trunk_that_is_cut_or_in_a_fenced_room() {
    let mut rooms = rooms();
    enter(&mut rooms, NOW, 1, false);
    enter(&mut rooms, NOW, 2, false);
    bring(&mut rooms, 3, 0);
    rooms.cut(NOW, TrunkId(0));
    rooms.carry(NOW, &room(), sender(2), false);
    bring(&mut rooms, 3, 1);
    let fan_out = snapshot(&mut rooms, NOW);
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, LATER), Ok(vec![1_001]));
    assert_eq!(rooms.behind(TrunkId(0)), [(room(), sender(3))]);
    assert!(rooms.take_away(NOW, &room(), sender(3), TrunkId(0)).is_none());
    rooms.fence(LATER, &room(), true);
    let fan_out = snapshot(&mut rooms, LATER);
    assert!(fan_out.is_fenced());
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, LATER), Ok(vec![]));
    rooms.fence(LATER, &room(), false);
    let fan_out = snapshot(&mut rooms, LATER + Duration::from_secs(1));
    assert_eq!(heard_by(&fan_out, 1, Origin::Here, LATER), Ok(vec![1_001]));
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u16, bool),
    Exit(u16),
    Carry(u16, bool),
    Bring(u16, u64),
    TakeAway(u16, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..7_u16;
    prop_oneof![
        (id.clone(), any::<bool>()).prop_map(|(id, standby)| Step::Enter(id, standby)),
        id.clone().prop_map(Step::Exit),
        (id.clone(), any::<bool>()).prop_map(|(id, here)| Step::Carry(id, here)),
        (id.clone(), 0..3_u64).prop_map(|(id, trunk)| Step::Bring(id, trunk)),
        (id, 0..3_u64).prop_map(|(id, trunk)| Step::TakeAway(id, trunk)),
        (100..3_000_u64).prop_map(Step::Wait),
    ]
}

#[derive(Clone, Default)]
struct Model {
    /// Since when it carries; `Some(None)`: it is standby.
    direct: Option<Option<Instant>>,
    trunks: Vec<u64>,
}

proptest! {
    /// The rule of docs/wire.md, told once more.
    #[test]
    fn packets_go_to_whom_the_rule_says(steps in prop::collection::vec(step(), 1..40)) {
        let (mut rooms, mut model, mut now) = (rooms(), BTreeMap::<u16, Model>::new(), NOW);
        for step in steps {
            match step {
                Step::Enter(id, standby) => {
                    enter(&mut rooms, now, id, standby);
                    model.entry(id).or_default().direct = Some((!standby).then_some(now));
                }
                Step::Exit(id) => {
                    rooms.exit(now, &room(), sender(id));
                    model.entry(id).or_default().direct = None;
                }
                Step::Carry(id, here) => {
                    rooms.carry(now, &room(), sender(id), here);
                    if let Some(since) = &mut model.entry(id).or_default().direct {
                        *since = if here { since.or(Some(now)) } else { None };
                    }
                }
                Step::Bring(id, trunk) => {
                    bring(&mut rooms, id, trunk);
                    let trunks = &mut model.entry(id).or_default().trunks;
                    trunks.retain(|&other| other != trunk);
                    trunks.push(trunk);
                }
                Step::TakeAway(id, trunk) => {
                    rooms.take_away(now, &room(), sender(id), TrunkId(trunk));
                    model.entry(id).or_default().trunks.retain(|&other| other != trunk);
                }
                Step::Wait(ms) => now += Duration::from_millis(ms),
            }
            let here = |member: &Model| matches!(member.direct, Some(Some(_)));
            let mut trunks: Vec<_> = model.values().flat_map(|member| &member.trunks).copied().collect();
            trunks.sort_unstable();
            trunks.dedup();
            let Some(entry) = rooms.rooms.get(&room()) else {
                prop_assert!(model.values().all(|member| member.direct.is_none() && member.trunks.is_empty()));
                continue;
            };
            let fan_out = entry.fan_out(100);
            for (&id, member) in &model {
                let others = |all: bool| model.iter().filter(move |(other, there)| {
                    **other != id && there.direct.is_some() && (all || here(there))
                }).map(|(&other, _)| u64::from(other));
                if !member.trunks.is_empty() {
                    let expected: Vec<_> = others(false).collect();
                    prop_assert_eq!(heard_by(&fan_out, id, Origin::Peer, now), Ok(expected));
                }
                if let Some(since) = member.direct {
                    let settled = since.is_some_and(|since| now >= since + Duration::from_secs(2));
                    let expected = others(!settled).chain(trunks.iter().map(|trunk| 1_000 + trunk));
                    prop_assert_eq!(heard_by(&fan_out, id, Origin::Here, now), Ok(expected.collect()));
                }
            }
            let carrying = fan_out.outlets().iter().filter(|outlet| matches!(outlet.to, To::Member(_)));
            prop_assert_eq!(carrying.count(), rooms.direct_count(&room()));
        }
    }
}
