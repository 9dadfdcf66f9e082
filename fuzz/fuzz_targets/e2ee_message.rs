//! A relay that delivers anything to a member: two honest members still hear each other afterwards.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_identity::{Identity, Phrase};
use wzp_sdk_core::e2ee::{Group, OVERHEAD};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level, RoomName, SenderId};

struct Pair {
    now: Instant,
    rng: ChaCha8Rng,
    ids: [SenderId; 2],
    groups: [Group; 2],
    /// The last genuine message to the first member, to be replayed and damaged.
    last: Vec<u8>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut pair = Pair::new();
    let mut rest = bytes;
    while let [op, len, tail @ ..] = rest {
        let (chunk, next) = tail.split_at(tail.len().min(usize::from(*len)));
        pair.attack(*op, chunk);
        rest = next;
    }
    pair.hear();
});

impl Pair {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let room = RoomName::parse("fuzz").expect("a name");
        let groups = [1, 2].map(|seed| {
            Group::new(
                &Identity::from_phrase(&Phrase::from_seed(&[seed; 32])),
                &room,
                &mut rng,
            )
        });
        let ids = [1, 2].map(|raw| SenderId::new(raw).expect("not 0"));
        let mut pair = Self {
            now: Instant::from_micros(1),
            rng,
            ids,
            groups,
            last: Vec::new(),
        };
        let [a, b] = &mut pair.groups;
        let announcements = [a.announcement().to_vec(), b.announcement().to_vec()];
        a.handle_joined(pair.now, ids[0], &[]);
        b.handle_joined(pair.now, ids[1], &[(ids[0], &announcements[0])]);
        a.handle_member_joined(pair.now, ids[1], &announcements[1]);
        pair.settle();
        pair
    }

    fn attack(&mut self, op: u8, chunk: &[u8]) {
        let from = SenderId::new(u16::from(op >> 4) + 1).expect("not 0");
        let group = &mut self.groups[0];
        match op & 7 {
            0 => group.handle_message(self.now, from, chunk),
            1 if from != self.ids[1] => group.handle_member_joined(self.now, from, chunk),
            2 => drop(group.open(self.now, from, &mut chunk.to_vec())),
            3 => {
                let mut message = self.last.clone();
                for (at, byte) in chunk.iter().enumerate() {
                    let len = message.len().max(1);
                    if let Some(target) = message.get_mut(at * 7 % len) {
                        *target ^= byte;
                    }
                }
                group.handle_message(self.now, from, &message);
            }
            4 if from != self.ids[1] => group.handle_member_left(self.now, from),
            5 => self.now += Duration::from_millis(u64::from(chunk.first().copied().unwrap_or(1)) * 10),
            _ => {}
        }
        self.settle();
    }

    fn hear(&mut self) {
        // Long enough for every question, answer and new key.
        for second in 0..4u32 {
            let mut header = Header {
                kind: Kind::Source,
                report: false,
                codec: Codec::Opus24k,
                level: Level::MAX,
                frames: 1,
                seq: 0,
                timestamp: second * 48_000,
                epoch: 0,
                context: 0,
                fec: FecFields::default(),
            };
            let mut packet = [0; 5 + OVERHEAD];
            let len = self.groups[1]
                .seal(self.now, &mut header, b"hello", &mut packet)
                .expect("sealed");
            if let Ok(opened) = self.groups[0].open(self.now, self.ids[1], &mut packet[..len]) {
                assert_eq!(opened.payload, b"hello");
                return;
            }
            self.now += Duration::from_secs(1);
            self.settle();
        }
        panic!("the first member is deaf");
    }

    fn settle(&mut self) {
        for _ in 0..16 {
            for me in 0..2 {
                if self.groups[me].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.groups[me].handle_timeout(self.now, &mut self.rng);
                }
                while self.groups[me].poll_event().is_some() {}
                while let Some((to, message)) = self.groups[me].poll_transmit() {
                    if to == self.ids[1 - me] {
                        self.groups[1 - me].handle_message(self.now, self.ids[me], &message);
                        if me == 1 {
                            self.last = message;
                        }
                    }
                }
            }
        }
    }
}
