//! Recorded speech through codecs, noise suppression and files.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::PathBuf;

use wzp_sdk::codec::Library;
use wzp_sdk::dsp::{BLOCK, Denoiser};
use wzp_sdk::wav::Reader;
use wzp_sdk_core::voice::codec::{Codec, Codecs, Decoder, Encoder};

const CLIPS: [&str; 4] = [
    "allison-congrats",
    "allison-echo",
    "librivox-first",
    "librivox-second",
];

fn path(rate: &str, name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/speech/{rate}/{name}.wav"));
    assert!(
        path.exists(),
        "recorded speech is missing ({}): run `make setup`",
        path.display()
    );
    path
}

fn read(rate: &str, name: &str) -> Vec<f32> {
    let mut reader = Reader::open(path(rate, name)).unwrap();
    let (mut sound, mut piece) = (Vec::new(), [0.0; BLOCK]);
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return sound,
            Ok(len) => sound.extend_from_slice(&piece[..len]),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// Encodes and decodes `input`; every frame for which `lost` holds is concealed.
fn through(codec: Codec, input: &[f32], lost: impl Fn(usize) -> bool) -> Vec<f32> {
    let mut encoder = Library.encoder(codec).unwrap();
    let mut decoder = Library.decoder(codec).unwrap();
    let mut output = Vec::new();
    for (index, pcm) in input.chunks_exact(encoder.frame_samples()).enumerate() {
        let (mut frame, mut out) = ([0; 64], [0.0; 1_920]);
        let len = encoder.encode(pcm, &mut frame).unwrap();
        let samples = if lost(index) {
            decoder.conceal(&mut out).unwrap()
        } else {
            decoder.decode(&frame[..len], &mut out).unwrap()
        };
        output.extend_from_slice(&out[..samples]);
    }
    output
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|s| s * s).sum()
}

/// Pearson's correlation of what the two have in common.
fn likeness(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    let (mean_a, mean_b) = (
        a.iter().sum::<f32>() / len as f32,
        b.iter().sum::<f32>() / len as f32,
    );
    let product: f32 = a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum();
    let scale_a: f32 = a.iter().map(|a| (a - mean_a) * (a - mean_a)).sum();
    let scale_b: f32 = b.iter().map(|b| (b - mean_b) * (b - mean_b)).sum();
    product / (scale_a * scale_b).sqrt()
}

/// Loudness of each 20 ms: the rhythm of speech.
fn rhythm(samples: &[f32]) -> Vec<f32> {
    samples
        .chunks_exact(960)
        .map(|block| energy(block).sqrt())
        .collect()
}

#[test]
fn good_keeps_the_waveform() {
    for name in CLIPS {
        let input = read("48k", name);
        let output = through(Codec::Opus24k, &input, |_| false);
        // The codec looks 6.5 ms ahead, and its high-pass turns the phase of what lies below 200 Hz.
        let best = (280..340)
            .map(|delay| likeness(&output[delay..], &input))
            .fold(0.0, f32::max);
        assert!(best > 0.8, "{name}: {best}");
    }
}

#[test]
fn every_mode_keeps_the_rhythm() {
    for codec in Codec::ALL {
        for name in CLIPS {
            let input = read("48k", name);
            let output = through(codec, &input, |_| false);
            // The vocoder and its filters take 25 ms, the others 6.5.
            let delay = if codec == Codec::Codec2_1200 { 1_200 } else { 312 };
            let kept = likeness(&rhythm(&output[delay..]), &rhythm(&input));
            assert!(kept > 0.85, "{codec:?} {name}: {kept}");
        }
    }
}

#[test]
fn a_tenth_of_the_frames_lost_does_not_tear_holes() {
    for name in CLIPS {
        let input = read("48k", name);
        let whole = through(Codec::Opus24k, &input, |_| false);
        let patched = through(Codec::Opus24k, &input, |index| index % 10 == 7);
        let kept = likeness(&rhythm(&patched), &rhythm(&whole));
        assert!(kept > 0.9, "{name}: {kept}");
    }
}

#[test]
fn narrowband_recordings_read_like_wideband_ones() {
    for name in CLIPS {
        let (direct, converted) = (read("48k", name), read("16k", name));
        assert_eq!(direct.len(), converted.len(), "{name}");
        assert!(
            likeness(&direct, &converted) > 0.999,
            "{name}: {}",
            likeness(&direct, &converted)
        );
    }
}

#[test]
fn speech_is_told_from_noise_and_survives_its_removal() {
    for name in CLIPS {
        let clean = read("48k", name);
        let mut seed = 1_u32;
        let noisy: Vec<f32> = clean
            .iter()
            .map(|sample| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                sample + (f32::from((seed >> 16) as u16) / 65_536.0 - 0.5) * 0.03
            })
            .collect();
        let mut denoiser = Denoiser::new();
        let (mut output, mut spoken, mut quiet) = (Vec::new(), Vec::new(), Vec::new());
        let loud = energy(&clean) / (clean.len() / BLOCK) as f32;
        for (noisy, clean) in noisy.chunks_exact(BLOCK).zip(clean.chunks_exact(BLOCK)) {
            let mut block: [f32; BLOCK] = noisy.try_into().unwrap();
            let probability = denoiser.process(&mut block);
            output.extend_from_slice(&block);
            if energy(clean) > loud {
                spoken.push(probability);
            } else if energy(clean) < loud / 10_000.0 {
                quiet.push(probability);
            }
        }
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
        assert!(
            mean(&spoken) > 0.8,
            "{name}: speech passes for noise, {}",
            mean(&spoken)
        );
        assert!(
            quiet.len() < 20 || mean(&quiet) < 0.4,
            "{name}: a pause passes for speech, {}",
            mean(&quiet)
        );
        let (before, after) = (
            likeness(&noisy, &clean),
            likeness(&output[Denoiser::DELAY..], &clean),
        );
        assert!(after > before.min(0.95), "{name}: {before} became {after}");
    }
}
