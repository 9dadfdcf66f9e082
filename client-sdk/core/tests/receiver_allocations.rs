//! Receiving in steady state allocates nothing. In its own file because the allocator is the process's.
use std::time::Duration;

use wzp_sdk_core::voice::{
    fec, jitter,
    receiver::{PULL, Receiver},
    sim::Tones,
};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level, SenderId};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Talk with losses that are repaired, losses that are not, late packets and pauses.
fn minute(receiver: &mut Receiver<Tones>, encoder: &mut fec::Encoder, blocks: std::ops::Range<u32>) {
    let mut out = [0.0; PULL];
    for block in blocks {
        let now = Instant::from_micros(1_000_000 + 10_000 * u64::from(block));
        let header = |kind, timestamp, fec| Header {
            kind,
            report: false,
            codec: Codec::Opus24k,
            level: Level::SILENCE,
            frames: 1,
            seq: 0,
            timestamp,
            epoch: 0,
            context: 0,
            fec,
        };
        let (counter, timestamp) = (u64::from(block / 2), block / 2 * 960);
        let pause = block % 1_000 >= 800;
        if block % 2 == 0 && !pause {
            let frame = Tones::frame(timestamp);
            let fields = encoder.push(timestamp, &frame);
            if block % 22 != 0 && block % 34 != 0 {
                receiver.handle_packet(now, &header(Kind::Source, timestamp, fields), counter, &frame);
            }
        } else if pause && block % 40 == 0 {
            let header = header(Kind::ComfortNoise, timestamp, FecFields::default());
            receiver.handle_packet(now, &header, counter, &[60]);
        }
        let mut symbol = [0; 256];
        while let Some(repair) = encoder.poll_repair(480 * (block + 1), &mut symbol) {
            let mut header = header(Kind::Repair, repair.timestamp, repair.fec);
            header.frames = repair.frames;
            receiver.handle_packet(now, &header, u64::from(block), &symbol[..repair.len]);
        }
        receiver.pull(now, &mut out);
        if block % 50 == 0 {
            receiver.report();
        }
    }
}

#[test]
fn steady_state_allocates_nothing() {
    let layout = fec::Layout::raptorq(5, 1, Duration::from_millis(30), Duration::ZERO).unwrap();
    let mut encoder = fec::Encoder::new(Codec::Opus24k, 1, layout);
    let mut receiver = Receiver::new(SenderId::new(1).unwrap(), Tones, jitter::Config::default());
    minute(&mut receiver, &mut encoder, 0..6_000);
    let before = allocations::count();
    minute(&mut receiver, &mut encoder, 6_000..12_000);
    let allocated = allocations::count() - before;
    let stats = receiver.stats();
    assert!(stats.recovered > 100 && stats.concealed_ms > 0, "{stats:?}");
    assert_eq!(allocated, 0);
}
