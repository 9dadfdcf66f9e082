//! Silence suppression on recorded speech with pauses half of the time: no word loses its beginning, and the bytes
//! that it saves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;

use wzp_sdk::{codec::Library, dsp::Denoiser, wav};
use wzp_sdk_core::voice::{
    mode::Tier,
    sender::{MAX_PAYLOAD_BYTES, Pauses, Sender, TICK_SAMPLES},
    vad,
};
use wzp_wire::Kind;

/// What a packet costs beside its payload: IPv4, UDP, lane with an 8-byte id, datagram and mini header, end-to-end tag.
const ENVELOPE: usize = 28 + 27 + 3 + 4 + 16;

/// Noise of a quiet room, about -70 dBov, the same every time.
struct Room(u32);

impl Room {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 >> 8) as f32 / 8_388_608.0 - 1.0) * 5.5e-4
    }
}

fn clips() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/speech/48k");
    let found = std::fs::read_dir(folder);
    assert!(found.is_ok(), "recorded speech is missing: run tools/speech.sh");
    let mut clips: Vec<_> = found.unwrap().map(|entry| entry.unwrap().path()).collect();
    clips.sort();
    assert!(
        clips.len() >= 5,
        "recorded speech is incomplete: run tools/speech.sh"
    );
    clips
}

/// Every clip followed by as much quiet room, in blocks of 10 ms.
fn conversation() -> Vec<[f32; TICK_SAMPLES]> {
    let mut room = Room(1);
    let mut pcm = Vec::new();
    for clip in clips() {
        let mut reader = wav::Reader::open(clip).unwrap();
        let mut speech = vec![0.0; 48_000 * 10];
        let len = reader.read(&mut speech).unwrap();
        pcm.extend(speech[..len].iter().map(|sample| sample + room.next()));
        pcm.extend((0..len).map(|_| room.next()));
    }
    pcm.as_chunks().0.to_vec()
}

/// Every block as it leaves the noise suppressor, with its probability of speech.
fn denoised(blocks: Vec<[f32; TICK_SAMPLES]>) -> Vec<([f32; TICK_SAMPLES], f32)> {
    let mut denoiser = Denoiser::new();
    let clean = |mut block| {
        let speech = denoiser.process(&mut block);
        (block, speech)
    };
    blocks.into_iter().map(clean).collect()
}

/// Which blocks were sent as speech, and the bytes of everything.
fn send(blocks: &[([f32; TICK_SAMPLES], f32)], tier: Tier, pauses: Pauses) -> (Vec<bool>, usize) {
    let mut sender = Sender::new(Library, tier, pauses, 0).unwrap();
    let (mut sent, mut bytes) = (vec![false; blocks.len()], 0);
    let mut out = [0; MAX_PAYLOAD_BYTES];
    for (block, speech) in blocks {
        sender.push(block, *speech).unwrap();
        while let Some((header, len)) = sender.poll_packet(&mut out) {
            bytes += len + ENVELOPE;
            if header.kind == Kind::Source {
                let first = header.timestamp as usize / TICK_SAMPLES;
                let ticks = header.codec.frame_samples() as usize / TICK_SAMPLES;
                sent[first..first + ticks].fill(true);
            }
        }
    }
    (sent, bytes)
}

#[test]
fn no_word_loses_its_beginning_and_half_of_the_bytes_are_saved() {
    let blocks = denoised(conversation());
    // 20 dB below speech at -26 dBov: softer than its softest sounds, just louder than what is left of the noise.
    let audible: Vec<_> = blocks
        .iter()
        .map(|(block, _)| vad::dbov(vad::power(block)) > -46.0)
        .collect();
    // A word begins after at least 100 ms of nothing.
    let begins = |i: &usize| audible[*i] && *i >= 10 && !audible[i - 10..*i].contains(&true);
    let words: Vec<_> = (0..audible.len()).filter(begins).collect();
    assert!(words.len() >= 35, "{}", words.len());
    for tier in Tier::ALL {
        let (sent, suppressed) = send(&blocks, tier, Pauses::Suppress);
        let (_, everything) = send(&blocks, tier, Pauses::Send);
        let clipped: Vec<_> = words.iter().filter(|word| !sent[**word]).collect();
        let lost = audible
            .iter()
            .zip(&sent)
            .filter(|(audible, sent)| **audible && !**sent)
            .count();
        let saved = 100.0 - suppressed as f64 * 100.0 / everything as f64;
        println!(
            "{tier}: {} words, {} clipped, {lost} audible blocks not sent, {saved:.1} % of the bytes saved",
            words.len(),
            clipped.len(),
        );
        assert!(clipped.is_empty(), "{tier}: {clipped:?}");
        assert_eq!(lost, 0, "{tier}");
        assert!((45.0..60.0).contains(&saved), "{tier}: {saved} %");
    }
}
