//! What runs for every frame takes no memory once it is warm.

use wzp_sdk::codec::Library;
use wzp_sdk::dsp::{BLOCK, Denoiser, EchoCanceller, Resampler};
use wzp_sdk_core::voice::codec::{Codec, Codecs, Decoder, Encoder};
use wzp_testkit::allocations::{self, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: usize = 50;
const MEASURED: usize = 200;

/// Allocations of the rounds behind the warm-up.
fn counted(mut round: impl FnMut(usize)) -> u64 {
    (0..WARM_UP).for_each(&mut round);
    let before = allocations::count();
    (WARM_UP..WARM_UP + MEASURED).for_each(&mut round);
    allocations::count() - before
}

fn buzz(round: usize, samples: usize) -> Vec<f32> {
    (0..samples)
        .map(|n| ((round * samples + n) % 400) as f32 / 1_000.0 - 0.2)
        .collect()
}

#[test]
fn opus_frames_do_not_allocate() {
    for codec in [Codec::Opus24k, Codec::Opus6k] {
        let mut encoder = Library.encoder(codec).unwrap();
        let mut decoder = Library.decoder(codec).unwrap();
        let pcm = buzz(0, encoder.frame_samples());
        let (mut frame, mut out) = ([0; 64], [0.0; 1_920]);
        let allocations = counted(|round| {
            let len = encoder.encode(&pcm, &mut frame).unwrap();
            if round % 4 == 0 {
                decoder.conceal(&mut out).unwrap();
            } else {
                decoder.decode(&frame[..len], &mut out).unwrap();
            }
        });
        assert_eq!(allocations, 0, "{codec:?}");
    }
}

#[test]
fn noise_suppression_does_not_allocate() {
    let mut denoiser = Denoiser::new();
    let mut block: [f32; BLOCK] = buzz(0, BLOCK).try_into().unwrap();
    let allocations = counted(|_| {
        denoiser.process(&mut block);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn resampling_does_not_allocate() {
    for (from, to) in [(44_100, 48_000), (48_000, 16_000)] {
        let mut resampler = Resampler::new(from, to).unwrap();
        let input = buzz(0, 441);
        let mut sum = 0.0;
        let allocations = counted(|_| resampler.push(&input, |ready| sum += ready.iter().sum::<f32>()));
        assert_eq!(allocations, 0, "{from} -> {to}");
    }
}

/// The libraries of echo canceller and vocoder allocate in every frame: this holds it where it is.
#[test]
fn echo_canceller_and_vocoder_allocate_no_more_than_known() {
    let mut canceller = EchoCanceller::default();
    let mut block: [f32; BLOCK] = buzz(0, BLOCK).try_into().unwrap();
    let of_canceller = counted(|_| {
        canceller.render(&block);
        canceller.capture(&mut block);
    });
    let mut encoder = Library.encoder(Codec::Codec2_1200).unwrap();
    let mut decoder = Library.decoder(Codec::Codec2_1200).unwrap();
    let (pcm, mut frame, mut out) = (buzz(0, 1_920), [0; 8], [0.0; 1_920]);
    let of_vocoder = counted(|_| {
        let len = encoder.encode(&pcm, &mut frame).unwrap();
        decoder.decode(&frame[..len], &mut out).unwrap();
    });
    assert!(of_canceller <= 60 * MEASURED as u64, "canceller: {of_canceller}");
    assert!(of_vocoder <= 600 * MEASURED as u64, "vocoder: {of_vocoder}");
}
