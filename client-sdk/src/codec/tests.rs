use wzp_sdk_core::voice::codec::{Codec, CodecError, Codecs, Decoder as _, Encoder as _};

use super::*;

const EVERY: [Codec; 3] = [Codec::Opus24k, Codec::Opus6k, Codec::Codec2_1200];

/// A vowel-like sound: a 120 Hz pulse train rich in harmonics, fading in and out.
fn voiced(samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| {
            let t = n as f32 / 48_000.0;
            let harmonics: f32 = (1..20)
                .map(|k| (t * 120.0 * k as f32 * std::f32::consts::TAU).sin() / k as f32)
                .sum();
            0.1 * harmonics * (0.6 + 0.4 * (t * 9.0).sin())
        })
        .collect()
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
}

/// A small deterministic generator: tests need variety, not quality.
struct Lcg(u64);

impl Lcg {
    fn byte(&mut self) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 56) as u8
    }
}

#[test]
fn libopus_is_the_pinned_one() {
    assert_eq!(opus_version(), "libopus 1.6.1");
}

#[test]
fn every_frame_of_a_mode_has_one_size() {
    for (codec, samples, bytes) in [
        (Codec::Opus24k, 960, 60),
        (Codec::Opus6k, 1_920, 30),
        (Codec::Codec2_1200, 1_920, 6),
    ] {
        let mut encoder = Library.encoder(codec).unwrap();
        assert_eq!(
            (encoder.frame_samples(), encoder.frame_bytes()),
            (samples, bytes),
            "{codec:?}"
        );
        assert_eq!(
            codec.frame_duration().as_millis() * 48,
            samples as u128,
            "{codec:?}"
        );
        let mut sound = voiced(samples * 20);
        sound.extend(std::iter::repeat_n(0.0, samples * 20));
        sound.extend(std::iter::repeat_n(1.0, samples * 3));
        sound.extend(std::iter::repeat_n(f32::NAN, samples));
        sound.extend(std::iter::repeat_n(f32::INFINITY, samples));
        sound.extend(voiced(samples * 5));
        for pcm in sound.chunks_exact(samples) {
            let mut out = [0; 256];
            assert_eq!(encoder.encode(pcm, &mut out), Ok(bytes), "{codec:?}");
        }
    }
}

#[test]
fn sound_survives_the_way_through() {
    for codec in EVERY {
        let mut encoder = Library.encoder(codec).unwrap();
        let mut decoder = Library.decoder(codec).unwrap();
        let samples = encoder.frame_samples();
        let input = voiced(samples * 30);
        let mut output = Vec::new();
        for pcm in input.chunks_exact(samples) {
            let (mut frame, mut out) = ([0; 64], [0.0; 1_920]);
            let len = encoder.encode(pcm, &mut frame).unwrap();
            assert_eq!(decoder.decode(&frame[..len], &mut out), Ok(samples));
            output.extend_from_slice(&out[..samples]);
        }
        let (before, after) = (rms(&input[samples * 5..]), rms(&output[samples * 5..]));
        // The vocoder lifts the bass of a bare buzz like this one.
        assert!(
            (0.5..4.0).contains(&(after / before)),
            "{codec:?}: {before} became {after}"
        );
        assert!(output.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
    }
}

#[test]
fn a_lost_frame_is_bridged_and_a_long_gap_falls_silent() {
    for codec in EVERY {
        let mut encoder = Library.encoder(codec).unwrap();
        let mut decoder = Library.decoder(codec).unwrap();
        let samples = encoder.frame_samples();
        let mut out = [0.0; 1_920];
        for pcm in voiced(samples * 20).chunks_exact(samples) {
            let mut frame = [0; 64];
            let len = encoder.encode(pcm, &mut frame).unwrap();
            decoder.decode(&frame[..len], &mut out).unwrap();
        }
        let before = rms(&out[..samples]);
        assert_eq!(decoder.conceal(&mut out), Ok(samples));
        assert!(rms(&out[..samples]) > before / 4.0, "{codec:?} drops out at once");
        for _ in 0..50 {
            assert_eq!(decoder.conceal(&mut out), Ok(samples));
        }
        assert!(
            rms(&out[..samples]) < before / 20.0,
            "{codec:?} never falls silent"
        );
    }
}

#[test]
fn concealing_before_the_first_frame_is_silence() {
    for codec in EVERY {
        let mut decoder = Library.decoder(codec).unwrap();
        let mut out = [1.0; 1_920];
        let samples = decoder.conceal(&mut out).unwrap();
        assert!(rms(&out[..samples]) < 1e-3, "{codec:?}");
    }
}

#[test]
fn wrong_lengths_are_refused() {
    for codec in EVERY {
        let mut encoder = Library.encoder(codec).unwrap();
        let mut decoder = Library.decoder(codec).unwrap();
        let (samples, bytes) = (encoder.frame_samples(), encoder.frame_bytes());
        let pcm = vec![0.0; samples + 1];
        let mut frame = vec![0; bytes];
        for len in [0, 1, samples - 1, samples + 1] {
            let wrong = CodecError::FrameLength {
                expected: samples,
                found: len,
            };
            assert_eq!(encoder.encode(&pcm[..len], &mut frame), Err(wrong));
        }
        let small = CodecError::BufferTooSmall {
            needed: bytes,
            found: bytes - 1,
        };
        assert_eq!(
            encoder.encode(&pcm[..samples], &mut frame[..bytes - 1]),
            Err(small)
        );
        encoder.encode(&pcm[..samples], &mut frame).unwrap();

        let mut out = vec![0.0; samples];
        for len in [0, 1, bytes - 1, bytes + 1, 1_276] {
            let mut wrong = frame.clone();
            wrong.resize(len, 0);
            assert_eq!(
                decoder.decode(&wrong, &mut out),
                Err(CodecError::BadFrame { len }),
                "{codec:?}"
            );
        }
        let small = CodecError::BufferTooSmall {
            needed: samples,
            found: samples - 1,
        };
        assert_eq!(decoder.decode(&frame, &mut out[..samples - 1]), Err(small));
        assert_eq!(decoder.conceal(&mut out[..samples - 1]), Err(small));
        assert_eq!(
            decoder.decode(&frame, &mut out),
            Ok(samples),
            "{codec:?} is still usable"
        );
    }
}

#[test]
fn hostile_frames_never_leave_full_scale() {
    let mut random = Lcg(7);
    for (codec, rounds) in [
        (Codec::Opus24k, 4_000),
        (Codec::Opus6k, 2_000),
        (Codec::Codec2_1200, 20_000),
    ] {
        let mut encoder = Library.encoder(codec).unwrap();
        let mut decoder = Library.decoder(codec).unwrap();
        let (samples, bytes) = (encoder.frame_samples(), encoder.frame_bytes());
        let mut good = vec![0; bytes];
        encoder.encode(&voiced(samples), &mut good).unwrap();
        let (mut out, mut refused) = (vec![0.0; samples], 0);
        for round in 0..rounds {
            let mut frame: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
            // Every other frame keeps a valid first byte, so that it gets past the check of its shape.
            if round % 2 == 0 {
                frame[0] = good[0];
            }
            match decoder.decode(&frame, &mut out) {
                Ok(len) => assert!(out[..len].iter().all(|s| s.is_finite() && s.abs() <= 1.0)),
                Err(CodecError::BadFrame { .. }) => refused += 1,
                Err(error) => panic!("{codec:?}: {error}"),
            }
            if round % 5 == 0 {
                decoder.conceal(&mut out).unwrap();
            }
        }
        assert_eq!(
            decoder.decode(&good, &mut out),
            Ok(samples),
            "{codec:?} is still usable"
        );
        assert_eq!(
            refused > 0,
            codec != Codec::Codec2_1200,
            "{codec:?} refused {refused}"
        );
    }
}
