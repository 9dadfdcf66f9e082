//! From microphone to packets, with a codec whose frames say what they hold.

use wzp_wire::{REPORT_LEN, SenderId};

use super::*;
use crate::voice::codec;

/// A frame is the number of the 10 ms block it begins with, and how many samples it holds.
struct Counting;

struct CountingEncoder(Codec);

/// Never asked.
struct NoDecoder;

impl Codecs for Counting {
    type Encoder = CountingEncoder;
    type Decoder = NoDecoder;

    fn encoder(&mut self, codec: Codec) -> Result<CountingEncoder, CodecError> {
        Ok(CountingEncoder(codec))
    }

    fn decoder(&mut self, _: Codec) -> Result<NoDecoder, CodecError> {
        Ok(NoDecoder)
    }
}

impl codec::Encoder for CountingEncoder {
    fn frame_samples(&self) -> usize {
        self.0.frame_samples() as usize
    }

    fn frame_bytes(&self) -> usize {
        Tier::ALL
            .iter()
            .find(|tier| tier.codec() == self.0)
            .unwrap()
            .mode()
            .payload_bytes() as usize
    }

    fn encode(&mut self, pcm: &[f32], out: &mut [u8]) -> Result<usize, CodecError> {
        assert_eq!(pcm.len(), self.frame_samples());
        let len = self.frame_bytes();
        out[..len].fill(self.0 as u8);
        out[..4].copy_from_slice(&number(pcm).to_be_bytes());
        // Blocks follow each other: nothing was skipped inside the frame.
        for (i, block) in (0..).zip(pcm.chunks(TICK_SAMPLES)) {
            assert_eq!(number(block), number(pcm) + i);
        }
        Ok(len)
    }
}

impl codec::Decoder for NoDecoder {
    fn decode(&mut self, _: &[u8], _: &mut [f32]) -> Result<usize, CodecError> {
        unreachable!()
    }

    fn conceal(&mut self, _: &mut [f32]) -> Result<usize, CodecError> {
        unreachable!()
    }
}

/// Block `number` of the microphone: quiet enough for a pause, and recognisable.
fn block(number: u32) -> [f32; TICK_SAMPLES] {
    let mut pcm = [1e-4; TICK_SAMPLES];
    pcm[0] = number as f32 / 16_777_216.0;
    pcm
}

fn number(pcm: &[f32]) -> u32 {
    (pcm[0] * 16_777_216.0) as u32
}

fn sender(tier: Tier, pauses: Pauses, start: u32) -> Sender<Counting> {
    Sender::new(Counting, tier, pauses, start).unwrap()
}

/// Pushes block `number` and takes every packet.
fn tick(sender: &mut Sender<Counting>, number: u32, speech: f32) -> Vec<(Header, Vec<u8>)> {
    sender.push(&block(number), speech).unwrap();
    let mut out = [0; MAX_PAYLOAD_BYTES];
    std::iter::from_fn(|| {
        sender
            .poll_packet(&mut out)
            .map(|(header, len)| (header, out[..len].to_vec()))
    })
    .collect()
}

/// Every source frame is where it says, and returns (timestamp, length) of each.
fn sources(packets: &[(Header, Vec<u8>)], start: u32) -> Vec<(u32, u32)> {
    packets
        .iter()
        .filter(|(header, _)| header.kind == Kind::Source)
        .map(|(header, payload)| {
            let block = u32::from_be_bytes(payload[..4].try_into().unwrap());
            assert_eq!(
                header.timestamp.wrapping_sub(start),
                block * 480,
                "a timestamp counts captured samples"
            );
            (header.timestamp, header.codec.frame_samples())
        })
        .collect()
}

fn assert_gapless(frames: &[(u32, u32)]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[0].0.wrapping_add(pair[0].1), pair[1].0, "{frames:?}");
    }
}

#[test]
fn a_second_of_speech_is_the_packets_of_its_tier() {
    for (tier, source, repair) in [
        (Tier::Good, 50, 10),
        (Tier::Degraded, 25, 12),
        (Tier::Catastrophic, 25, 25),
    ] {
        let mut sender = sender(tier, Pauses::Send, 77);
        let packets: Vec<_> = (0..120).flat_map(|i| tick(&mut sender, i, 1.0)).collect();
        let count = |kind| {
            packets
                .iter()
                .filter(|(h, _)| h.kind == kind && h.timestamp < 77 + 48_000)
                .count()
        };
        assert_eq!(
            (count(Kind::Source), count(Kind::Repair) / 2 * 2),
            (source, repair / 2 * 2),
            "{tier}"
        );
        assert_gapless(&sources(&packets, 77));
        let size = tier.mode().payload_bytes() as usize;
        assert!(
            packets
                .iter()
                .all(|(header, payload)| payload.len() == size && header.frames == 1)
        );
        assert!(
            packets.iter().all(|(header, _)| header.encode().is_ok()),
            "every header is well formed"
        );
    }
}

#[test]
fn a_change_of_tier_waits_for_the_block_and_leaves_no_gap() {
    let tiers = [
        Tier::Degraded,
        Tier::Catastrophic,
        Tier::Good,
        Tier::Catastrophic,
        Tier::Degraded,
        Tier::Good,
    ];
    let start = 0_u32.wrapping_sub(50_000);
    let mut sender = sender(Tier::Good, Pauses::Send, start);
    let mut packets = Vec::new();
    let mut switches = tiers.iter();
    for i in 0..420 {
        if i % 67 == 33 {
            sender.set_tier(*switches.next().unwrap()).unwrap();
        }
        packets.extend(tick(&mut sender, i, 1.0));
    }
    assert_eq!(sender.mode(), Tier::Good.mode());
    let frames = sources(&packets, start);
    assert_gapless(&frames);
    let codecs: Vec<_> = packets
        .iter()
        .filter(|(h, _)| h.kind == Kind::Source)
        .map(|(h, _)| h.codec)
        .collect();
    assert_eq!(codecs.chunk_by(|a, b| a == b).count(), 7);

    // Every block is complete, so that everything comes back when one source packet of each is lost.
    let mut decoder = fec::Decoder::new();
    let mut known = Vec::new();
    for (header, payload) in packets
        .iter()
        .filter(|(h, _)| h.kind == Kind::Repair || h.fec.index != 1)
    {
        let _ = decoder.push(header, payload, &mut |frame: fec::Frame<'_>| {
            known.push(frame.timestamp.wrapping_sub(start))
        });
    }
    known.sort_unstable();
    let sent: Vec<_> = frames
        .iter()
        .map(|(timestamp, _)| timestamp.wrapping_sub(start))
        .collect();
    // The last block's repair packets are still to come.
    assert_eq!(known[..sent.len() - 5], sent[..sent.len() - 5]);
}

#[test]
fn a_plan_without_repair_sends_none() {
    let mut sender = sender(Tier::Good, Pauses::Send, 0);
    let _ = (0..7).flat_map(|i| tick(&mut sender, i, 1.0)).count();
    sender.set_plan(Tier::Degraded, Repair::Off).unwrap();
    let packets: Vec<_> = (7..100).flat_map(|i| tick(&mut sender, i, 1.0)).collect();
    assert_gapless(&sources(&packets, 0));
    let after = packets.iter().filter(|(h, _)| h.codec == Codec::Opus6k);
    assert!(after.clone().count() > 20);
    assert!(
        after
            .into_iter()
            .all(|(h, _)| h.kind == Kind::Source && h.fec == FecFields::default())
    );
}

#[test]
fn words_begin_before_they_are_noticed_and_blocks_are_complete() {
    for tier in Tier::ALL {
        let mut sender = sender(tier, Pauses::Suppress, 0);
        let mut packets = Vec::new();
        // 500 ms of pause, 600 ms of speech, again and again.
        for i in 0..1_100 {
            let speech = if i % 110 >= 50 { 0.9 } else { 0.0 };
            packets.extend(tick(&mut sender, i, speech));
        }
        let frames = sources(&packets, 0);
        let spurts: Vec<_> = frames.chunk_by(|a, b| a.0 + a.1 == b.0).collect();
        // The call begins talking, until the first block is done.
        assert_eq!(spurts.len(), 11, "{tier}");
        for (n, spurt) in (0..).zip(&spurts[1..]) {
            let (onset, first) = ((n * 110 + 50) * 480, spurt[0].0);
            assert_eq!(onset - first, LOOK_BACK_TICKS as u32 * 480, "{tier}, word {n}");
            let k = usize::from(tier.mode().fec.k);
            assert!(
                spurt.len().is_multiple_of(k) || n == 9,
                "{tier}, word {n}: {} packets",
                spurt.len()
            );
            let end = spurt.last().map(|(timestamp, len)| timestamp + len).unwrap();
            let (least, block) = ((n * 110 + 110 + 23) * 480, k as u32 * spurt[0].1);
            assert!(
                n == 9 || (least..=least + block).contains(&end),
                "{tier}, word {n} ends at {end}, not {least}"
            );
        }
    }
}

#[test]
fn pauses_of_half_the_time_save_about_half_of_the_bytes() {
    for tier in Tier::ALL {
        let bytes = |pauses| {
            let mut sender = sender(tier, pauses, 0);
            // 3 s of speech, 3 s of pause, as in a conversation of two.
            let packets =
                (0..6_000).flat_map(|i| tick(&mut sender, i, if i % 600 < 300 { 0.9 } else { 0.0 }));
            packets.map(|(_, payload)| payload.len() + 78).sum::<usize>()
        };
        let (all, suppressed) = (bytes(Pauses::Send), bytes(Pauses::Suppress));
        let saved = 100 - suppressed * 100 / all;
        println!("{tier}: {saved} % of the bytes saved");
        assert!((35..=50).contains(&saved), "{tier}: {saved} %");
    }
}

#[test]
fn a_pause_tells_its_noise_every_400_ms() {
    let mut sender = sender(Tier::Good, Pauses::Suppress, 0);
    let packets: Vec<_> = (0..200).flat_map(|i| tick(&mut sender, i, 0.0)).collect();
    assert!(sender.is_paused());
    let noise: Vec<_> = packets
        .iter()
        .filter(|(h, _)| h.kind == Kind::ComfortNoise)
        .collect();
    assert_eq!(noise.len(), 5);
    for pair in noise.windows(2) {
        assert_eq!(pair[1].0.timestamp - pair[0].0.timestamp, 400 * 48);
    }
    let last = sources(&packets, 0)
        .last()
        .map(|(timestamp, len)| timestamp + len);
    assert_eq!(Some(noise[0].0.timestamp), last, "noise begins where speech ends");
    assert!(
        noise
            .iter()
            .all(|(header, payload)| payload.len() == 1 && header.encode().is_ok())
    );
    // The test's microphone hisses at -80 dBov.
    assert!(
        noise.iter().all(|(_, payload)| (76..=84).contains(&payload[0])),
        "{noise:?}"
    );
}

#[test]
fn repairs_of_the_last_block_do_not_wait_for_the_next_word() {
    let mut sender = sender(Tier::Catastrophic, Pauses::Suppress, 0);
    let mut packets: Vec<_> = (0..20).flat_map(|i| tick(&mut sender, i, 0.0)).collect();
    assert!(sender.is_paused());
    packets.extend((20..36).flat_map(|i| tick(&mut sender, i, 0.0)));
    assert_eq!(packets.iter().filter(|(h, _)| h.kind == Kind::Repair).count(), 5);
}

#[test]
fn reports_ride_on_the_next_packets() {
    let mut sender = sender(Tier::Good, Pauses::Send, 0);
    let report = |about, loss_permille| ReceiverReport {
        about: SenderId::new(about).unwrap(),
        loss_permille,
        late_permille: 0,
        concealed_permille: 0,
        jitter_ms: 0,
        rtt_ms: 0,
        delay_ms: 0,
        mos_centi: 0,
        key_mismatch: 0,
        highest_tier: 0,
    };
    for (about, loss) in [(5, 1), (6, 2), (5, 3)] {
        sender.attach_report(report(about, loss));
    }
    let packets: Vec<_> = (0..6).flat_map(|i| tick(&mut sender, i, 1.0)).collect();
    let read: Vec<_> = packets
        .iter()
        .map(|(header, payload)| header.report.then(|| ReceiverReport::decode(payload).unwrap()))
        .collect();
    let [Some((first, frames)), Some((second, _)), None] = read[..] else {
        panic!("{read:?}");
    };
    assert_eq!((first, second), (report(5, 3), report(6, 2)));
    assert_eq!(
        (frames.len(), packets[0].1.len(), packets[2].1.len()),
        (60, 60 + REPORT_LEN, 60)
    );
}

#[test]
fn packets_that_nobody_takes_make_room_for_newer_ones() {
    let mut sender = sender(Tier::Good, Pauses::Send, 0);
    for i in 0..200 {
        sender.push(&block(i), 1.0).unwrap();
    }
    let mut out = [0; MAX_PAYLOAD_BYTES];
    assert!(sender.poll_packet(&mut out[..MAX_PAYLOAD_BYTES - 1]).is_none());
    let left: Vec<_> = std::iter::from_fn(|| sender.poll_packet(&mut out)).collect();
    assert_eq!(left.len(), 16);
    assert_eq!(left.last().map(|(header, _)| header.timestamp), Some(198 * 480));
    assert_eq!(sender.dropped(), 100 + 19 - 16);
}

#[test]
fn a_block_of_another_length_is_refused_and_changes_nothing() {
    let mut sender = sender(Tier::Good, Pauses::Send, 0);
    let wrong = sender.push(&[0.0; 441], 1.0);
    assert_eq!(
        wrong,
        Err(CodecError::FrameLength {
            expected: 480,
            found: 441
        })
    );
    let packets: Vec<_> = (0..20).flat_map(|i| tick(&mut sender, i, 1.0)).collect();
    assert_gapless(&sources(&packets, 0));
}
