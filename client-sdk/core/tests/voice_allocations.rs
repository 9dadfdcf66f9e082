//! The voice thread allocates nothing in its steady state: counted, from the microphone to the recovered frame.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use wzp_sdk_core::voice::{
    codec::{Codec, CodecError, Codecs, Decoder, Encoder},
    fec,
    mode::Tier,
    sender::{MAX_PAYLOAD_BYTES, Pauses, Sender, TICK_SAMPLES},
};
use wzp_testkit::allocations::{self, Counting};
use wzp_wire::{Kind, ReceiverReport, SenderId};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Plain;
struct PlainEncoder(Codec);
struct PlainDecoder;

impl Codecs for Plain {
    type Encoder = PlainEncoder;
    type Decoder = PlainDecoder;

    fn encoder(&mut self, codec: Codec) -> Result<PlainEncoder, CodecError> {
        Ok(PlainEncoder(codec))
    }

    fn decoder(&mut self, _: Codec) -> Result<PlainDecoder, CodecError> {
        Ok(PlainDecoder)
    }
}

impl Encoder for PlainEncoder {
    fn frame_samples(&self) -> usize {
        self.0.frame_samples() as usize
    }

    fn frame_bytes(&self) -> usize {
        match self.0 {
            Codec::Opus24k => 60,
            Codec::Opus6k => 30,
            Codec::Codec2_1200 => 6,
        }
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        let len = self.frame_bytes();
        for (byte, sample) in out[..len].iter_mut().zip(pcm.iter().step_by(16)) {
            *byte = (sample * 255.0) as u8;
        }
        Ok(len)
    }
}

impl Decoder for PlainDecoder {
    fn decode(&mut self, _: &[u8], _: &mut [f32]) -> Result<usize, CodecError> {
        Ok(0)
    }

    fn conceal(&mut self, _: &mut [f32]) -> Result<usize, CodecError> {
        Ok(0)
    }
}

fn report() -> ReceiverReport {
    ReceiverReport {
        about: SenderId::new(7).unwrap(),
        loss_permille: 10,
        late_permille: 0,
        concealed_permille: 0,
        jitter_ms: 4,
        rtt_ms: 40,
        delay_ms: 60,
        mos_centi: 430,
        key_mismatch: 0,
        highest_tier: 0,
    }
}

/// Runs `ticks` blocks of 10 ms through sender and decoder, losing every `lose`th packet (0 none); the frames heard.
fn run(sender: &mut Sender<Plain>, decoder: &mut fec::Decoder, ticks: u32, lose: u32) -> (u32, u32) {
    let mut out = [0; MAX_PAYLOAD_BYTES];
    let (mut heard, mut recovered, mut number) = (0, 0, 0_u32);
    for tick in 0..ticks {
        // Two seconds of speech, one of pause.
        let speech = if tick % 300 < 200 { 0.9 } else { 0.0 };
        sender.push(&[0.25; TICK_SAMPLES], speech).unwrap();
        if tick % 100 == 0 {
            sender.attach_report(report());
        }
        while let Some((header, len)) = sender.poll_packet(&mut out) {
            number += 1;
            if lose > 0 && number.is_multiple_of(lose) || header.kind == Kind::ComfortNoise {
                continue;
            }
            let payload = if header.report {
                ReceiverReport::decode(&out[..len]).unwrap().1
            } else {
                &out[..len]
            };
            let _ = decoder.push(&header, payload, &mut |frame: fec::Frame<'_>| {
                heard += 1;
                recovered += u32::from(frame.recovered);
            });
        }
    }
    (heard, recovered)
}

#[test]
fn voice_in_its_steady_state_allocates_nothing_with_or_without_loss() {
    for tier in Tier::ALL {
        let mut sender = Sender::new(Plain, tier, Pauses::Suppress, 0).unwrap();
        let mut decoder = fec::Decoder::new();
        // Every block of the decoder's window and its solver are used once.
        run(&mut sender, &mut decoder, 900, 7);
        for lose in [0, 7] {
            let before = allocations::count();
            let (heard, recovered) = run(&mut sender, &mut decoder, 3_000, lose);
            assert_eq!(
                allocations::count() - before,
                0,
                "{tier}, every {lose}th packet lost"
            );
            assert!(
                heard > 500 && (recovered > 20) == (lose > 0),
                "{tier}: {heard} heard, {recovered} recovered"
            );
        }
    }
}
