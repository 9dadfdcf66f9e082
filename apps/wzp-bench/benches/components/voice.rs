//! Codecs, forward error correction, the receiving half.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use wzp_sdk::codec::Library;
use wzp_sdk_core::voice::codec::{Codecs, Decoder as _, Encoder as _};
use wzp_sdk_core::voice::mode::Tier;
use wzp_sdk_core::voice::receiver::{PULL, Receiver};
use wzp_sdk_core::voice::{fec, jitter};
use wzp_wire::{Codec, FecFields, Header, Instant, Kind, SenderId};

use super::packets::header;

/// Something like a voice: a buzz of 120 Hz whose loudness changes, with some noise.
fn speech(samples: usize) -> Vec<f32> {
    let mut noise = 1_u32;
    (0..samples)
        .map(|n| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = (noise >> 8) as f32 / 8_388_608.0 - 1.0;
            let phase = n as f32 / 48_000.0 * std::f32::consts::TAU;
            let buzz: f32 = (1..12).map(|h| (phase * 120.0 * h as f32).sin() / h as f32).sum();
            (buzz * 0.15 + hiss * 0.02) * (0.6 + 0.4 * (phase * 3.0).sin())
        })
        .collect()
}

fn encode(codec: Codec, frames: usize) -> Vec<Vec<u8>> {
    let mut encoder = Library.encoder(codec).unwrap();
    let pcm = speech(encoder.frame_samples() * frames);
    let mut out = [0; 256];
    pcm.chunks_exact(encoder.frame_samples())
        .map(|frame| {
            let len = encoder.encode(frame, &mut out).unwrap();
            out[..len].to_vec()
        })
        .collect()
}

pub(crate) fn codecs(criterion: &mut Criterion) {
    for (name, codec) in [
        ("Opus 24k", Codec::Opus24k),
        ("Opus 6k", Codec::Opus6k),
        ("Codec2 1200", Codec::Codec2_1200),
    ] {
        let frame_ms = codec.frame_duration().as_millis();
        let mut encoder = Library.encoder(codec).unwrap();
        let samples = encoder.frame_samples();
        let (pcm, mut out, mut at) = (speech(samples * 50), [0; 256], 0);
        criterion.bench_function(&format!("codec/encode {name}, {frame_ms} ms"), |bench| {
            bench.iter(|| {
                let frame = &pcm[at * samples..(at + 1) * samples];
                at = (at + 1) % 50;
                encoder.encode(frame, black_box(&mut out)).unwrap()
            });
        });
        let (frames, mut sound, mut at) = (encode(codec, 50), vec![0.0; samples], 0);
        let mut decoder = Library.decoder(codec).unwrap();
        criterion.bench_function(&format!("codec/decode {name}, {frame_ms} ms"), |bench| {
            bench.iter(|| {
                at = (at + 1) % frames.len();
                decoder.decode(&frames[at], black_box(&mut sound)).unwrap()
            });
        });
        criterion.bench_function(&format!("codec/conceal {name}, {frame_ms} ms"), |bench| {
            bench.iter(|| {
                // Concealment fades out in a row: only the first after a frame does its whole work.
                decoder.decode(&frames[0], &mut sound).unwrap();
                decoder.conceal(black_box(&mut sound)).unwrap()
            });
        });
    }
}

/// A block of a tier: headers and payloads of its source packets, then of its repair packets.
fn block(tier: Tier, encoder: &mut fec::Encoder, base: u32) -> Vec<(Header, Vec<u8>)> {
    let (mode, payload) = (tier.mode(), vec![0x5a; tier.mode().payload_bytes() as usize]);
    let step = mode.codec.frame_samples();
    let mut packets = Vec::new();
    for index in 0..u32::from(mode.fec.k) {
        let timestamp = base.wrapping_add(index * step);
        let fec = encoder.push(timestamp, &payload);
        packets.push((
            Header {
                codec: mode.codec,
                fec,
                ..header(timestamp, 0)
            },
            payload.clone(),
        ));
    }
    let (mut out, end) = ([0; 256], base.wrapping_add(step * u32::from(mode.fec.k)));
    // Late enough for every repair packet.
    while let Some(repair) = encoder.poll_repair(end.wrapping_add(48_000), &mut out) {
        packets.push((
            Header {
                kind: Kind::Repair,
                codec: repair.codec,
                context: Kind::Repair.stream().no_context(),
                fec: repair.fec,
                ..header(repair.timestamp, 0)
            },
            out[..repair.len].to_vec(),
        ));
    }
    packets
}

pub(crate) fn fec(criterion: &mut Criterion) {
    for tier in Tier::ALL {
        let mode = tier.mode();
        let span = mode.codec.frame_samples() * u32::from(mode.fec.k);
        let mut encoder = fec::Encoder::new(mode.codec, mode.frames, mode.fec);
        let (mut base, mut out) = (0_u32, [0; 256]);
        let payload = vec![0x5a; mode.payload_bytes() as usize];
        criterion.bench_function(&format!("fec/encode a block, {tier}"), |bench| {
            bench.iter(|| {
                for index in 0..u32::from(mode.fec.k) {
                    encoder.push(base.wrapping_add(index * mode.codec.frame_samples()), &payload);
                }
                base = base.wrapping_add(span);
                let mut repairs = 0;
                while encoder.poll_repair(base.wrapping_add(48_000), &mut out).is_some() {
                    repairs += 1;
                }
                repairs
            });
        });
        let mut encoder = fec::Encoder::new(mode.codec, mode.frames, mode.fec);
        let (mut decoder, mut base) = (fec::Decoder::new(), 0_u32);
        let mut known = 0_u64;
        let lost = usize::from(mode.fec.r.min(mode.fec.k));
        criterion.bench_function(&format!("fec/decode a block with {lost} lost, {tier}"), |bench| {
            bench.iter_batched(
                || {
                    let packets = block(tier, &mut encoder, base);
                    base = base.wrapping_add(span);
                    packets
                },
                |packets| {
                    for (header, payload) in packets.iter().skip(lost) {
                        // One more than needed may come.
                        let _ = decoder.push(header, payload, &mut |_: fec::Frame<'_>| known += 1);
                    }
                },
                criterion::BatchSize::SmallInput,
            );
        });
        assert!(known > 0);
    }
}

pub(crate) fn receiver(criterion: &mut Criterion) {
    for tier in Tier::ALL {
        let codec = tier.codec();
        let frames = encode(codec, 100);
        let from = SenderId::new(1).unwrap();
        let mut receiver = Receiver::new(from, Library, jitter::Config::default());
        let ticks_a_frame = codec.frame_samples() / 480;
        let (mut tick, mut sound) = (0_u32, [0.0; PULL]);
        criterion.bench_function(&format!("receiver/10 ms, {tier}"), |bench| {
            bench.iter(|| {
                let now = Instant::ZERO + Duration::from_millis(10) * tick;
                if tick.is_multiple_of(ticks_a_frame) {
                    let number = tick / ticks_a_frame;
                    let header = Header {
                        codec,
                        fec: FecFields::default(),
                        ..header(number.wrapping_mul(codec.frame_samples()), 0)
                    };
                    let frame = &frames[number as usize % frames.len()];
                    receiver.handle_packet(now, &header, u64::from(number), frame);
                }
                tick += 1;
                receiver.pull(now, black_box(&mut sound))
            });
        });
    }
}
