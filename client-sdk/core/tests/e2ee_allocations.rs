//! Sealing and opening allocate nothing in their steady state, whatever the header: counted.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_identity::{Identity, Phrase};
use wzp_sdk_core::e2ee::{Group, OVERHEAD};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level, RoomName, SenderId};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn exchange(a: &mut Group, b: &mut Group, ids: [SenderId; 2], now: Instant) {
    for _ in 0..4 {
        while let Some((_, message)) = a.poll_transmit() {
            b.handle_message(now, ids[0], &message);
        }
        while let Some((_, message)) = b.poll_transmit() {
            a.handle_message(now, ids[1], &message);
        }
    }
    while a.poll_event().is_some() || b.poll_event().is_some() {}
}

#[test]
fn a_packet_costs_no_allocation() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let room = RoomName::parse("standup").unwrap();
    let [mut a, mut b] = [1, 2].map(|seed| {
        Group::new(
            &Identity::from_phrase(&Phrase::from_seed(&[seed; 32])),
            &room,
            &mut rng,
        )
    });
    let ids = [1, 2].map(|raw| SenderId::new(raw).unwrap());
    let mut now = Instant::from_micros(1);
    let announcements = [a.announcement().to_vec(), b.announcement().to_vec()];
    a.handle_joined(now, ids[0], &[(ids[1], &announcements[1])]);
    b.handle_joined(now, ids[1], &[(ids[0], &announcements[0])]);
    exchange(&mut a, &mut b, ids, now);

    let mut packet = [0; 120 + OVERHEAD];
    let before = allocations::count();
    for n in 0..5_000u32 {
        let repair = n % 6 == 5;
        let mut header = Header {
            kind: if repair { Kind::Repair } else { Kind::Source },
            report: n % 50 == 0,
            codec: Codec::Opus24k,
            level: Level::MAX,
            frames: 1,
            seq: 0,
            timestamp: (n - n / 6) * 960,
            epoch: 0,
            context: 0,
            fec: if repair {
                FecFields {
                    scheme: 1,
                    k: 5,
                    r: 1,
                    index: 0,
                }
            } else {
                FecFields::default()
            },
        };
        let len = a.seal(now, &mut header, &[7; 120], &mut packet).unwrap();
        let opened = b.open(now, ids[0], &mut packet[..len]).unwrap();
        assert_eq!(opened.payload, [7; 120]);
        // A duplicate.
        assert!(b.open(now, ids[0], &mut packet[..len]).is_err());
        let nothing = (b.poll_held(&mut Vec::new()), b.poll_transmit(), b.poll_event());
        assert_eq!(nothing, (None, None, None));
        now += Duration::from_millis(20);
    }
    assert_eq!(allocations::count() - before, 0);
}
