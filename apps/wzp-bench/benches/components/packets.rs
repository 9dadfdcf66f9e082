//! Headers, lanes, end-to-end seals.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use wzp_identity::{Identity, Phrase};
use wzp_lane::{Aead, LaneId, Opener, Sealer, Secret};
use wzp_sdk_core::e2ee::Group;
use wzp_wire::media::{Compressor, Decompressor, Stream};
use wzp_wire::{Codec, Datagram, FecFields, Header, Instant, Kind, Level, RoomName, SenderId};

/// A frame of 60 bytes, as Opus at 24 kbit/s makes.
const FRAME: [u8; 60] = [0x5a; 60];
const TAG: usize = 16;

pub(crate) fn header(timestamp: u32, index: u8) -> Header {
    Header {
        kind: Kind::Source,
        report: false,
        codec: Codec::Opus24k,
        level: Level::from_dbov(-26.0),
        frames: 1,
        seq: 0,
        timestamp,
        epoch: 0,
        context: Kind::Source.stream().no_context(),
        fec: FecFields {
            scheme: 1,
            k: 5,
            r: 1,
            index,
        },
    }
}

pub(crate) fn wire(criterion: &mut Criterion) {
    let mut compressor = Compressor::new(Stream::Source);
    let (mut tick, mut out) = (0_u32, [0; 12]);
    criterion.bench_function("wire/header write", |bench| {
        bench.iter(|| {
            let mut header = header(tick.wrapping_mul(960), (tick % 5) as u8);
            header.seq = tick as u16;
            let now = Instant::from_micros(u64::from(tick) * 20_000);
            tick = tick.wrapping_add(1);
            compressor.write(now, &mut header, black_box(&mut out)).unwrap()
        });
    });
    let mut full = header(960, 0);
    full.context = 1;
    let mut decompressor = Decompressor::new();
    decompressor.accept(&full);
    let mini = [0x81, 0xf0, 0, 3, 0, 0, 0, 0];
    criterion.bench_function("wire/mini header read", |bench| {
        bench.iter(|| decompressor.read(black_box(&mini)).unwrap());
    });
    let sender = SenderId::new(7).unwrap();
    let mut bytes = [0; 83];
    let packet = [0x5a; 80];
    let len = Datagram::Media {
        sender,
        packet: &packet,
    }
    .encode(&mut bytes)
    .unwrap();
    criterion.bench_function("wire/datagram decode", |bench| {
        bench.iter(|| Datagram::decode(black_box(&bytes[..len])).unwrap());
    });
}

pub(crate) fn lane(criterion: &mut Criterion) {
    const LEN: usize = 83;
    for (name, aead) in [
        ("AES-128-GCM", Aead::Aes128Gcm),
        ("ChaCha20-Poly1305", Aead::ChaCha20Poly1305),
    ] {
        let sealer = || Sealer::new(Secret::from([7; 32]), aead, LaneId::new(&[0x80; 8]).unwrap());
        let sealing = sealer();
        let mut packet = [0; 128];
        criterion.bench_function(&format!("lane/seal {name}"), |bench| {
            bench.iter(|| {
                sealing.confirm(sealing.next_counter().saturating_sub(1));
                sealing.seal(black_box(&mut packet), LEN, false).unwrap()
            });
        });
        let (sealing, opener) = (sealer(), Opener::new(Secret::from([7; 32]), aead, 8));
        criterion.bench_function(&format!("lane/open {name}"), |bench| {
            bench.iter_batched_ref(
                || {
                    sealing.confirm(sealing.next_counter().saturating_sub(1));
                    let mut packet = vec![0; 128];
                    let len = sealing.seal(&mut packet, LEN, false).unwrap();
                    packet.truncate(len);
                    packet
                },
                |packet| opener.open(packet).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
}

/// Two members who have each other's keys.
pub(crate) fn pair() -> (Group, Group, SenderId) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let room = RoomName::parse("bench").unwrap();
    let [mut a, mut b] = [1, 2].map(|seed| {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[seed; 32]));
        Group::new(&identity, &room, &mut rng)
    });
    let [from, to] = [1, 2].map(|raw| SenderId::new(raw).unwrap());
    let now = Instant::from_micros(1);
    let announcements = [a.announcement().to_vec(), b.announcement().to_vec()];
    a.handle_joined(now, from, &[]);
    b.handle_joined(now, to, &[(from, &announcements[0])]);
    a.handle_member_joined(now, to, &announcements[1]);
    for _ in 0..4 {
        while let Some((_, message)) = a.poll_transmit() {
            b.handle_message(now, from, &message);
        }
        while let Some((_, message)) = b.poll_transmit() {
            a.handle_message(now, to, &message);
        }
    }
    (a, b, from)
}

pub(crate) fn end_to_end(criterion: &mut Criterion) {
    let (mut speaker, _, _) = pair();
    let (mut tick, mut out) = (0_u32, [0; 128]);
    let mut seal = move |speaker: &mut Group, out: &mut [u8]| {
        let mut header = header(tick.wrapping_mul(960), (tick % 5) as u8);
        let now = Instant::ZERO + Duration::from_millis(20) * tick;
        tick = tick.wrapping_add(1);
        speaker.seal(now, &mut header, &FRAME, out).unwrap()
    };
    criterion.bench_function("e2ee/seal", |bench| {
        bench.iter(|| seal(&mut speaker, black_box(&mut out)));
    });
    let (mut speaker, mut listener, from) = pair();
    let mut tick = 0_u32;
    criterion.bench_function("e2ee/open", |bench| {
        bench.iter_batched_ref(
            || {
                let mut header = header(tick.wrapping_mul(960), (tick % 5) as u8);
                let now = Instant::ZERO + Duration::from_millis(20) * tick;
                tick = tick.wrapping_add(1);
                let mut packet = vec![0; 12 + FRAME.len() + TAG];
                let len = speaker.seal(now, &mut header, &FRAME, &mut packet).unwrap();
                packet.truncate(len);
                packet
            },
            |packet| {
                // A batch is opened at one time; what was opened is looked at, not copied.
                let opened = listener.open(Instant::from_micros(2), from, packet).unwrap();
                opened.payload.len()
            },
            BatchSize::SmallInput,
        );
    });
}
