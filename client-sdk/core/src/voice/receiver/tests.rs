use proptest::prelude::*;
use wzp_testkit::Rng;
use wzp_wire::{Codec, FecFields, Level};

use super::*;
use crate::voice::sim::{Tone, Tones};

const MS: Duration = Duration::from_millis(1);

/// A sender and a receiver in step: one call of [`Pair::tick`] is 10 ms of both.
struct Pair {
    receiver: Receiver<Tones>,
    now: Instant,
    counter: u64,
    epoch: u8,
    timestamp: u32,
    codec: Codec,
    /// 10 ms blocks until the next frame is complete.
    until_frame: u32,
    heard: Vec<f32>,
    kinds: Vec<Sound>,
}

impl Pair {
    fn new() -> Self {
        let about = SenderId::new(7).unwrap();
        Self {
            receiver: Receiver::new(about, Tones, jitter::Config::default()),
            now: Instant::from_micros(10_000_000),
            counter: 0,
            epoch: 0,
            timestamp: 0,
            codec: Codec::Opus24k,
            until_frame: 0,
            heard: Vec::new(),
            kinds: Vec::new(),
        }
    }

    fn header(&self, kind: Kind) -> Header {
        Header {
            kind,
            report: false,
            codec: self.codec,
            level: Level::SILENCE,
            frames: 1,
            seq: self.counter as u16,
            timestamp: self.timestamp,
            epoch: self.epoch,
            context: 0,
            fec: FecFields::default(),
        }
    }

    fn pull(&mut self) {
        let mut block = [0.0; PULL];
        let playout = self.receiver.pull(self.now, &mut block);
        self.heard.extend(block);
        self.kinds.push(playout.kind);
        self.now += 10 * MS;
    }

    /// Talks for `ms`; frames for which `arrives` says no are lost.
    fn talk_with(&mut self, ms: u64, mut arrives: impl FnMut(u64) -> bool) {
        for _ in 0..ms / 10 {
            if self.until_frame == 0 {
                self.until_frame = self.codec.frame_samples() / 480;
                if arrives(self.counter) {
                    let (header, frame) = (self.header(Kind::Source), Tones::frame(self.timestamp));
                    self.receiver
                        .handle_packet(self.now, &header, self.counter, &frame);
                }
                self.counter += 1;
                self.timestamp = self.timestamp.wrapping_add(self.codec.frame_samples());
            }
            self.until_frame -= 1;
            self.pull();
        }
    }

    fn talk(&mut self, ms: u64) {
        self.talk_with(ms, |_| true);
    }

    /// A pause of `ms`, described by comfort noise at -55 dBov each 400 ms.
    fn pause(&mut self, ms: u64) {
        for block in 0..ms / 10 {
            if block % 40 == 0 {
                let header = self.header(Kind::ComfortNoise);
                self.receiver
                    .handle_packet(self.now, &header, self.counter, &[55]);
                self.counter += 1;
            }
            self.timestamp = self.timestamp.wrapping_add(480);
            self.pull();
        }
    }

    fn steepest(&self) -> f32 {
        self.heard
            .windows(2)
            .map(|w| (w[1] - w[0]).abs())
            .fold(0.0, f32::max)
    }
}

/// Steepest slope of the tone itself, per sample.
fn slope() -> f32 {
    std::f32::consts::TAU * Tones::HZ as f32 / 48_000.0 * Tones::AMPLITUDE
}

#[test]
fn a_clean_link_plays_every_sample_in_order() {
    let mut pair = Pair::new();
    pair.talk(1_000);
    let start = pair.heard.iter().position(|s| s.abs() > 0.4).unwrap();
    assert!(start < 48 * 60, "starts after {start} samples");
    let talk = &pair.heard[start + 480..];
    // The tone has a period of 240 samples: any skip or repetition would break it.
    assert!(talk.windows(241).all(|w| (w[240] - w[0]).abs() < 1e-3));
    let stats = pair.receiver.stats();
    assert_eq!((stats.lost, stats.late, stats.concealed_ms), (0, 0, 0));
    assert!(stats.mos.unwrap() > 4.0 && stats.played_ms >= 900);
}

#[test]
fn lost_frames_are_concealed_and_counted() {
    let mut pair = Pair::new();
    pair.talk(500);
    pair.talk_with(2_000, |counter| counter % 10 != 0);
    pair.talk(500);
    let stats = pair.receiver.stats();
    assert_eq!((stats.lost, stats.late), (10, 0));
    assert_eq!((stats.concealed_ms, stats.longest_gap_ms), (200, 20));
    assert!(pair.steepest() < 1.2 * slope(), "{}", pair.steepest());
}

#[test]
fn a_burst_fades_into_noise_and_speech_comes_back() {
    let mut pair = Pair::new();
    pair.talk(1_000);
    let before = pair.heard.len();
    let from = pair.counter;
    pair.talk_with(300, |_| false);
    let during = pair.heard.len();
    assert!(pair.counter > from);
    pair.talk(500);
    let energy = |part: &[f32]| part.iter().map(|s| s * s).sum::<f32>() / part.len() as f32;
    assert!(
        energy(&pair.heard[before..before + 4_800]) > 0.1,
        "concealed at first"
    );
    assert!(
        energy(&pair.heard[during - 480..during]) < 0.001,
        "silent in the end"
    );
    assert!(energy(&pair.heard[pair.heard.len() - 4_800..]) > 0.1);
    assert!((280..=320).contains(&pair.receiver.stats().longest_gap_ms));
    assert!(pair.steepest() < 1.3 * slope(), "{}", pair.steepest());
}

#[test]
fn pauses_are_comfort_noise_and_no_loss() {
    let mut pair = Pair::new();
    for _ in 0..20 {
        pair.talk(1_000);
        pair.pause(1_500);
    }
    let stats = pair.receiver.stats();
    assert_eq!(
        (stats.lost, stats.late, stats.concealed_ms),
        (0, 0, 0),
        "{stats:?}"
    );
    assert!(pair.kinds.iter().filter(|kind| **kind == Sound::Comfort).count() > 2_800);
    assert!(pair.steepest() < 2.0 * slope(), "{}", pair.steepest());
    let last = &pair.heard[pair.heard.len() - 4_800..];
    let rms = (last.iter().map(|s| s * s).sum::<f32>() / 4_800.0).sqrt();
    assert!((0.001..0.004).contains(&rms), "-55 dBov is 0.0018, got {rms}");
}

#[test]
fn an_onset_sent_after_the_fact_is_not_clipped() {
    let mut pair = Pair::new();
    pair.talk(2_000);
    for _ in 0..10 {
        pair.pause(1_000);
        // The sender had kept 80 ms back, and sends them at once.
        pair.timestamp -= 80 * 48;
        for _ in 0..4 {
            let (header, frame) = (pair.header(Kind::Source), Tones::frame(pair.timestamp));
            pair.receiver
                .handle_packet(pair.now, &header, pair.counter, &frame);
            pair.counter += 1;
            pair.timestamp += 960;
        }
        pair.until_frame = 0;
        pair.talk(1_000);
    }
    let stats = pair.receiver.stats();
    assert_eq!((stats.lost, stats.late), (0, 0), "{stats:?}");
    assert!(
        stats.target_ms < 60.0,
        "an onset is no jitter: {}",
        stats.target_ms
    );
}

#[test]
fn a_change_of_codec_and_frame_length_is_seamless() {
    let mut pair = Pair::new();
    for codec in [Codec::Opus24k, Codec::Opus6k, Codec::Codec2_1200, Codec::Opus24k] {
        pair.codec = codec;
        pair.until_frame = 0;
        pair.talk(2_000);
    }
    let stats = pair.receiver.stats();
    assert_eq!(stats.late, 0, "{stats:?}");
    assert!(stats.concealed_ms <= 60, "{}", stats.concealed_ms);
    assert!(pair.steepest() < 1.5 * slope(), "{}", pair.steepest());
}

#[test]
fn a_restarted_sender_is_heard_at_once() {
    let mut pair = Pair::new();
    pair.talk(2_000);
    pair.timestamp = 3_000_000_000;
    pair.counter = 0;
    pair.epoch = 1;
    pair.talk(2_000);
    let stats = pair.receiver.stats();
    let speech = pair.kinds[210..]
        .iter()
        .filter(|kind| **kind == Sound::Speech)
        .count();
    assert!(speech >= 180, "{speech} of 190, {stats:?}");
    assert_eq!((stats.lost, stats.late), (0, 0));
}

#[test]
fn a_device_that_stops_for_a_while_catches_up() {
    let mut pair = Pair::new();
    pair.talk(1_000);
    for _ in 0..150 {
        let (header, frame) = (pair.header(Kind::Source), Tones::frame(pair.timestamp));
        pair.receiver
            .handle_packet(pair.now, &header, pair.counter, &frame);
        pair.counter += 1;
        pair.timestamp += 960;
        pair.now += 20 * MS;
    }
    pair.talk(3_000);
    assert!(pair.receiver.pcm.queued() <= Pcm::QUEUE);
    let delay = pair
        .receiver
        .buffer
        .current(pair.now, pair.receiver.pcm.queued())
        .unwrap();
    assert!(delay < 150 * MS, "{delay:?}");
}

#[test]
fn reports_come_out_and_tell_what_happened() {
    let mut pair = Pair::new();
    pair.talk(1_000);
    pair.receiver.report();
    pair.receiver.set_rtt(80 * MS);
    pair.talk_with(2_000, |counter| counter % 4 != 0);
    let report = pair.receiver.report();
    assert_eq!(report.about, SenderId::new(7).unwrap());
    assert!((230..=270).contains(&report.loss_permille), "{report:?}");
    assert!((200..=300).contains(&report.concealed_permille), "{report:?}");
    assert_eq!(report.rtt_ms, 80);
    assert!(report.mos_centi > 100);
    let again = pair.receiver.report();
    assert_eq!((again.loss_permille, again.concealed_permille), (0, 0));

    let mut header = pair.header(Kind::Source);
    header.report = true;
    let mut payload = report.encode().to_vec();
    payload.extend(Tones::frame(pair.timestamp));
    let got = pair
        .receiver
        .handle_packet(pair.now, &header, pair.counter, &payload);
    assert_eq!(got, Some(report));
    let got = pair
        .receiver
        .handle_packet(pair.now, &header, pair.counter + 1, &payload[..10]);
    assert_eq!(got, None);
    assert_eq!(pair.receiver.stats().malformed, 1);
}

#[test]
fn repair_brings_frames_back() {
    let mut pair = Pair::new();
    let layout = fec::Layout::raptorq(5, 1, 30 * MS, Duration::ZERO).unwrap();
    let mut encoder = fec::Encoder::new(Codec::Opus24k, 1, layout);
    let mut rng = Rng::new(4);
    for block in 0..6_000_u32 {
        if block % 2 == 0 {
            let frame = Tones::frame(pair.timestamp);
            let mut header = pair.header(Kind::Source);
            header.fec = encoder.push(pair.timestamp, &frame);
            if !rng.chance(0.05) {
                pair.receiver
                    .handle_packet(pair.now, &header, pair.counter, &frame);
            }
            pair.counter += 1;
            pair.timestamp += 960;
        }
        let mut symbol = [0; 256];
        while let Some(repair) = encoder.poll_repair(480 * (block + 1), &mut symbol) {
            let mut header = pair.header(Kind::Repair);
            (header.timestamp, header.fec, header.frames) = (repair.timestamp, repair.fec, repair.frames);
            pair.receiver
                .handle_packet(pair.now, &header, u64::from(block), &symbol[..repair.len]);
        }
        pair.pull();
    }
    let stats = pair.receiver.stats();
    assert!(stats.recovered > 80, "{stats:?}");
    assert!(stats.target_ms > 90.0, "waits for repair: {}", stats.target_ms);
    assert!(stats.concealed_ms < 20 * stats.lost / 2, "{stats:?}");
}

#[test]
fn a_tone_codec_refuses_what_is_not_its_own() {
    use crate::voice::codec::{Codecs, Decoder};
    let mut tone: Tone = Tones.decoder(Codec::Opus24k).unwrap();
    assert!(tone.decode(&[1, 2, 3], &mut [0.0; 960]).is_err());
    assert!(tone.decode(&Tones::frame(0), &mut [0.0; 100]).is_err());
}

fn any_header() -> impl Strategy<Value = Header> {
    let fec = (0_u8..3, 0_u8..16, 0_u8..16, 0_u8..16).prop_map(|(scheme, k, r, index)| FecFields {
        scheme,
        k,
        r,
        index,
    });
    let kind = prop_oneof![Just(Kind::Source), Just(Kind::Repair), Just(Kind::ComfortNoise)];
    let codec = prop::sample::select(Codec::ALL.to_vec());
    let stamp = prop_oneof![any::<u32>(), 0_u32..200_000];
    (kind, any::<bool>(), codec, stamp, 1_u8..5, fec).prop_map(
        |(kind, report, codec, timestamp, frames, fec)| Header {
            kind,
            report,
            codec,
            level: Level::SILENCE,
            frames,
            seq: 0,
            timestamp,
            epoch: 0,
            context: 0,
            fec,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a hostile sender seals: no panic, bounded memory, sound in range.
    #[test]
    fn arbitrary_packets_do_no_harm(
        packets in prop::collection::vec(
            (any_header(), prop_oneof![any::<u64>(), 0_u64..1_000], prop::collection::vec(any::<u8>(), 0..300), 0_u64..200_000),
            1..200,
        ),
    ) {
        let mut receiver = Receiver::new(SenderId::new(1).unwrap(), Tones, jitter::Config::default());
        let mut now = Instant::from_micros(1_000_000);
        let mut block = [0.0; PULL];
        for (header, counter, payload, wait) in packets {
            receiver.handle_packet(now, &header, counter, &payload);
            receiver.pull(now, &mut block);
            prop_assert!(block.iter().all(|s| s.is_finite() && s.abs() <= 1.5));
            prop_assert!(receiver.buffer.len() <= 64 && receiver.pcm.queued() <= Pcm::QUEUE);
            receiver.report().encode();
            now += Duration::from_micros(wait);
        }
    }
}

#[test]
fn nothing_is_judged_before_anything_is_heard() {
    let mut pair = Pair::new();
    pair.pull();
    let stats = pair.receiver.stats();
    assert_eq!((stats.jitter_ms, stats.delay_ms, stats.mos), (None, None, None));
    pair.pause(2_000);
    let stats = pair.receiver.stats();
    assert_eq!((stats.delay_ms, stats.mos), (None, None), "comfort noise only");
    assert_eq!(pair.receiver.report().mos_centi, 0);
}

#[test]
fn the_last_second_is_judged_by_itself() {
    let mut pair = Pair::new();
    pair.talk(3_000);
    pair.talk_with(3_000, |counter| counter % 3 != 0);
    let bad = pair.receiver.stats().last_second.mos.unwrap();
    pair.talk(20_000);
    let stats = pair.receiver.stats();
    let good = stats.last_second.mos.unwrap();
    assert!(bad < 3.0 && good > 4.0, "{bad} {good}");
    assert!(stats.mos.unwrap() < good, "the whole call remembers");
    assert!(stats.last_second.delay_ms.is_some());
    pair.pause(3_000);
    let last = pair.receiver.stats().last_second;
    assert_eq!(last, LastSecond::default(), "a pause");
}

#[test]
fn a_gap_that_goes_on_counts() {
    let mut pair = Pair::new();
    pair.talk(1_000);
    for _ in 0..500 {
        pair.pull();
    }
    let stats = pair.receiver.stats();
    assert!(stats.longest_gap_ms > 4_500, "{stats:?}");
    assert!(stats.last_second.mos.unwrap() < 1.5, "{stats:?}");
    let gap = pair.receiver.take_gap();
    assert_eq!(gap, pair.receiver.take_gap(), "it is not over");
    pair.talk(2_000);
    assert!(pair.receiver.take_gap() >= gap);
    assert_eq!(pair.receiver.take_gap(), Duration::ZERO);
}
