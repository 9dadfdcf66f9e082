//! Receiving in steady state allocates nothing. In its own file because the allocator is the process's.
#![allow(unsafe_code, reason = "a counting allocator has to be an unsafe impl")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Duration,
};

use wzp_sdk_core::voice::{
    fec, jitter,
    receiver::{PULL, Receiver},
    sim::Tones,
};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, Level, SenderId};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator; counting touches no memory it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

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
    let before = ALLOCATIONS.with(Cell::get);
    minute(&mut receiver, &mut encoder, 6_000..12_000);
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    let stats = receiver.stats();
    assert!(stats.recovered > 100 && stats.concealed_ms > 0, "{stats:?}");
    assert_eq!(allocated, 0);
}
