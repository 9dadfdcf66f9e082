//! No (key, nonce) pair is ever used twice: over joins, leaves, wraps of the epoch byte, and restarts.

use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_wire::{Instant, Kind, RoomName};

use super::relay::{header, id, identity};
use crate::e2ee::{Event, Group};

#[derive(Debug, Clone)]
enum Step {
    Seal(Kind),
    /// The output is too small: nothing may have been used up, or it is not used again.
    SealInto(usize),
    Join,
    Leave,
    Wait(u64),
    /// The process starts again, with the same identity and room.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![Just(Kind::Source), Just(Kind::Repair), Just(Kind::ComfortNoise)].prop_map(Step::Seal),
        1 => (0usize..40).prop_map(Step::SealInto),
        2 => Just(Step::Join),
        2 => Just(Step::Leave),
        2 => (0u64..1_500).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

struct Rig {
    now: Instant,
    rng: ChaCha8Rng,
    room: RoomName,
    group: Group,
    joined: u16,
    left: u16,
    used: HashSet<([u8; 32], [u8; 12])>,
    epochs: usize,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let room = RoomName::parse("standup").unwrap();
        let group = Group::new(&identity(1), &room, &mut rng);
        let now = Instant::from_micros(1);
        Self {
            now,
            rng,
            room,
            group,
            joined: 1,
            left: 1,
            used: HashSet::new(),
            epochs: 0,
        }
    }

    fn seal(&mut self, kind: Kind, room: usize) -> Result<(), TestCaseError> {
        let mut header = header(0, kind);
        let before = self.group.sealer().counters();
        let mut out = [0; 64];
        let sealed = self.group.seal(self.now, &mut header, b"text", &mut out[..room]);
        let after = self.group.sealer().counters();
        if sealed.is_ok() {
            prop_assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1);
            let pair = self.group.sealer().last_key_and_nonce(kind.stream());
            prop_assert!(self.used.insert(pair), "a key and nonce were used twice");
        } else {
            prop_assert_eq!(before, after);
        }
        Ok(())
    }

    fn apply(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Seal(kind) => self.seal(*kind, 64)?,
            Step::SealInto(room) => self.seal(Kind::Source, *room)?,
            Step::Join => {
                let other = Group::new(&identity(2), &self.room, &mut self.rng);
                self.joined += 1;
                self.group
                    .handle_member_joined(self.now, id(self.joined), other.announcement());
            }
            Step::Leave if self.left < self.joined => {
                self.left += 1;
                self.group.handle_member_left(self.now, id(self.left));
            }
            Step::Leave => {}
            Step::Wait(ms) => self.now += Duration::from_millis(*ms),
            Step::Restart => self.group = Group::new(&identity(1), &self.room, &mut self.rng),
        }
        if self.group.poll_timeout().is_some_and(|at| at <= self.now) {
            self.group.handle_timeout(self.now, &mut self.rng);
        }
        while self.group.poll_transmit().is_some() {}
        while let Some(event) = self.group.poll_event() {
            self.epochs += usize::from(matches!(event, Event::EpochChanged { .. }));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_key_and_nonce_twice(seed: u64, steps in prop::collection::vec(step(), 1..200)) {
        let mut rig = Rig::new(seed);
        for step in &steps {
            rig.apply(step)?;
        }
    }
}

#[test]
fn not_even_when_the_epoch_byte_wraps() {
    let mut rig = Rig::new(1);
    let round = [
        Step::Join,
        Step::Seal(Kind::Source),
        Step::Leave,
        Step::Seal(Kind::Repair),
        Step::Wait(1_100),
    ];
    for _ in 0..100 {
        for step in &round {
            rig.apply(step).unwrap();
        }
    }
    assert!(rig.epochs > 64, "{}", rig.epochs);
    assert_eq!(rig.used.len(), 200);
}

#[test]
fn the_counter_ends_and_does_not_wrap() {
    let mut rig = Rig::new(1);
    rig.group.sealer().jump((1 << 48) - 1);
    let mut out = [0; 64];
    let now = rig.now;
    let mut seal = || {
        rig.group
            .seal(now, &mut header(0, Kind::Source), b"text", &mut out)
    };
    assert!(seal().is_ok());
    assert!(seal().is_err());
}
