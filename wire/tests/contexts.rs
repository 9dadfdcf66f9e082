//! Mini headers over a channel that loses, reorders, repeats and delays: the exact header or none.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use std::time::Duration;
use wzp_wire::{
    Codec, Compressor, Decompressor, FecFields, Header, HeaderError, Instant, Kind, Level, Stream,
    media::{FULL_LEN, MINI_LEN},
};

/// What the sender does with its next packets.
#[derive(Clone, Debug)]
enum Step {
    /// Goes on as before.
    Talk {
        packets: u16,
        level: u8,
    },
    /// Something that no mini header can say.
    Change {
        codec: Codec,
        frames: u8,
        k: u8,
        r: u8,
        jump: u32,
    },
    NextEpoch,
    ComfortNoise,
    Report,
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop::sample::select(&Codec::ALL[..]);
    prop_oneof![
        6 => (1u16..80, 0u8..16).prop_map(|(packets, level)| Step::Talk { packets, level }),
        3 => (codec, 1u8..=4, 1u8..=15, 1u8..=15, any::<u32>())
            .prop_map(|(codec, frames, k, r, jump)| Step::Change { codec, frames, k, r, jump }),
        1 => Just(Step::NextEpoch),
        1 => Just(Step::ComfortNoise),
        1 => Just(Step::Report),
    ]
}

/// One stream as a voice sender and its end-to-end seal would number it.
struct Sender {
    stream: Stream,
    compressor: Compressor,
    now: Instant,
    next: Header,
}

struct Sent {
    bytes: Vec<u8>,
    header: Header,
}

impl Sender {
    fn new(stream: Stream, seq: u16, timestamp: u32, fec: FecFields) -> Self {
        let kind = if stream == Stream::Source {
            Kind::Source
        } else {
            Kind::Repair
        };
        let next = Header {
            kind,
            report: false,
            codec: Codec::Opus24k,
            level: Level::MAX,
            frames: 1,
            seq,
            timestamp,
            epoch: 0,
            context: 0,
            fec,
        };
        Self {
            stream,
            compressor: Compressor::new(stream),
            now: Instant::ZERO,
            next,
        }
    }

    fn send(&mut self) -> Sent {
        let (mut out, mut header) = ([0; FULL_LEN], self.next);
        let len = self.compressor.write(self.now, &mut header, &mut out).unwrap();
        self.now += header.codec.frame_duration();
        self.next.seq = self.next.seq.wrapping_add(1);
        self.next.fec.index += 1;
        let FecFields { k, r, index, .. } = self.next.fec;
        let samples = header.samples();
        match self.stream {
            Stream::Source => {
                self.next.timestamp = self.next.timestamp.wrapping_add(samples);
                self.next.fec.index = if k == 0 { 0 } else { index % k };
            }
            Stream::Repair if index == r => {
                self.next.timestamp = self.next.timestamp.wrapping_add(samples * u32::from(k));
                self.next.fec.index = 0;
            }
            Stream::Repair => {}
        }
        Sent {
            bytes: out[..len].to_vec(),
            header,
        }
    }

    fn run(&mut self, step: Step, sent: &mut Vec<Sent>) {
        match step {
            Step::Talk { packets, level } => {
                self.next.level = Level::new(level).unwrap();
                sent.extend((0..packets).map(|_| self.send()));
            }
            Step::Change {
                codec,
                frames,
                k,
                r,
                jump,
            } => {
                self.next.codec = codec;
                self.next.frames = frames;
                self.next.fec = FecFields {
                    scheme: 1,
                    k,
                    r,
                    index: 0,
                };
                self.next.timestamp = self.next.timestamp.wrapping_add(jump);
                sent.push(self.send());
            }
            Step::NextEpoch => {
                self.next.epoch = self.next.epoch.wrapping_add(1);
                sent.push(self.send());
            }
            Step::ComfortNoise if self.stream == Stream::Source => {
                self.next.kind = Kind::ComfortNoise;
                sent.push(self.send());
                self.next.kind = Kind::Source;
            }
            Step::ComfortNoise => {}
            Step::Report => {
                self.next.report = true;
                sent.push(self.send());
                self.next.report = false;
            }
        }
    }
}

/// What the channel does with a packet: how many places it comes late, and whether it comes at all.
fn fate() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![3 => Just(None), 6 => Just(Some(0)), 2 => (0usize..40).prop_map(Some), 1 => (0usize..1_000).prop_map(Some)]
}

fn exact_or_unknown(stream: Stream, start: (u16, u32), steps: Vec<Step>, fates: &[Option<usize>]) {
    let fec = FecFields {
        scheme: 1,
        k: 5,
        r: 2,
        index: 0,
    };
    let mut sender = Sender::new(stream, start.0, start.1, fec);
    let mut sent = Vec::new();
    for step in steps {
        sender.run(step, &mut sent);
    }
    let mut arrivals: Vec<(usize, usize)> = (0..sent.len())
        .filter_map(|place| fates[place % fates.len()].map(|late| (place + late, place)))
        .collect();
    arrivals.sort_unstable();
    let mut receiver = Decompressor::new();
    for (_, place) in arrivals {
        let Sent { bytes, header } = &sent[place];
        match receiver.read(bytes) {
            Ok((got, rest, len)) => {
                assert_eq!(got, *header);
                assert_eq!((rest.len(), len), (0, bytes.len()));
                if len == FULL_LEN {
                    receiver.accept(&got);
                }
            }
            Err(error) => {
                assert_eq!(error, HeaderError::UnknownContext(header.context));
                assert_eq!(bytes.len(), MINI_LEN);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_lossy_reordered_channel_gives_the_exact_header_or_none(
        repair in any::<bool>(),
        seq in prop_oneof![any::<u16>(), 65_300u16..],
        timestamp in prop_oneof![any::<u32>(), u32::MAX - 200_000..],
        steps in prop::collection::vec(step(), 1..200),
        fates in prop::collection::vec(fate(), 1..500),
    ) {
        let stream = if repair { Stream::Repair } else { Stream::Source };
        exact_or_unknown(stream, (seq, timestamp), steps, &fates);
    }

    /// All 63 ids are used up again and again, and whole contexts go by unseen.
    #[test]
    fn ids_that_come_again_never_stand_for_the_old_context(
        repair in any::<bool>(),
        packets in 1u16..60,
        keep in 1usize..90,
        fates in prop::collection::vec(fate(), 1..200),
    ) {
        let stream = if repair { Stream::Repair } else { Stream::Source };
        let change = |n: u32| Step::Change { codec: Codec::Opus6k, frames: 1, k: 4, r: 3, jump: n * 7 + 1 };
        let steps = (0..300).flat_map(|n| [change(n), Step::Talk { packets, level: 3 }]).collect();
        // Only every `keep`th part of the stream gets through at all.
        let holes = fates.iter().enumerate().map(|(n, fate)| fate.filter(|_| (n / 50).is_multiple_of(keep)));
        exact_or_unknown(stream, (0, 0), steps, &holes.collect::<Vec<_>>());
    }

    #[test]
    fn a_receiver_never_panics_and_reads_back_what_it_accepts(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..50)) {
        let mut receiver = Decompressor::new();
        for packet in &packets {
            if let Ok((header, rest, len)) = receiver.read(packet) {
                assert_eq!(rest, &packet[len..]);
                assert_eq!(Header::decode(&header.encode().unwrap()).unwrap().0, header);
                receiver.accept(&header);
            }
        }
    }
}

fn plain() -> Sender {
    Sender::new(Stream::Source, 0, 0, FecFields::default())
}

#[test]
fn four_full_headers_then_one_every_half_second() {
    let mut sender = plain();
    let lens: Vec<usize> = (0..60).map(|_| sender.send().bytes.len()).collect();
    let full: Vec<usize> = (0..60).filter(|&n| lens[n] == FULL_LEN).collect();
    // 25 packets of 20 ms after the fourth.
    assert_eq!(full, [0, 1, 2, 3, 28, 53]);
}

#[test]
fn silence_does_not_stretch_the_time_between_full_headers() {
    let mut sender = plain();
    (0..10).for_each(|_| drop(sender.send()));
    sender.now += Duration::from_millis(400);
    assert_eq!(sender.send().bytes.len(), FULL_LEN);
}

#[test]
fn a_report_is_full_and_leaves_the_context_alone() {
    let mut sender = plain();
    let before = (0..10).map(|_| sender.send()).last().unwrap().header.context;
    sender.next.report = true;
    let report = sender.send();
    sender.next.report = false;
    let after = sender.send();
    assert_eq!((report.bytes.len(), after.bytes.len()), (FULL_LEN, MINI_LEN));
    assert_eq!([report.header.context, after.header.context], [before, before]);
}

#[test]
fn comfort_noise_is_full_and_starts_no_context() {
    let mut sender = plain();
    sender.next.kind = Kind::ComfortNoise;
    let mut receiver = Decompressor::new();
    for _ in 0..6 {
        let Sent { bytes, header } = sender.send();
        assert_eq!(
            (bytes.len(), header.context),
            (FULL_LEN, Stream::Source.no_context())
        );
        receiver.accept(&header);
    }
    let reserved = HeaderError::Reserved(wzp_wire::media::Field::Context);
    assert_eq!(receiver.read(&[0xbf, 0, 0, 6]), Err(reserved));
}

#[test]
fn streams_never_share_a_context() {
    for (stream, ids) in [(Stream::Source, 0..=63), (Stream::Repair, 64..=127)] {
        let mut sender = Sender::new(
            stream,
            0,
            0,
            FecFields {
                scheme: 1,
                k: 5,
                r: 2,
                index: 0,
            },
        );
        for _ in 0..200 {
            sender.next.epoch = sender.next.epoch.wrapping_add(1);
            assert!(ids.contains(&sender.send().header.context));
        }
    }
}

#[test]
fn contexts_changed_too_fast_fall_back_to_full_headers() {
    let mut sender = plain();
    for n in 0..200u32 {
        sender.next.epoch = sender.next.epoch.wrapping_add(1);
        let header = sender.send().header;
        assert_eq!(header.context == Stream::Source.no_context(), n >= 63);
    }
}

#[test]
fn what_did_not_authenticate_teaches_nothing() {
    let mut sender = plain();
    let receiver = Decompressor::new();
    assert!(receiver.read(&sender.send().bytes).is_ok());
    (0..3).for_each(|_| drop(sender.send()));
    assert_eq!(
        receiver.read(&sender.send().bytes),
        Err(HeaderError::UnknownContext(0))
    );
}

#[test]
fn a_mini_far_from_its_full_header_is_unknown() {
    let mut receiver = Decompressor::new();
    let Sent { header, .. } = plain().send();
    receiver.accept(&header);
    let mini = |seq: u16| [0x80, 0x50, seq.to_be_bytes()[0], seq.to_be_bytes()[1]];
    assert_eq!(receiver.read(&mini(1_024)).unwrap().0.timestamp, 1_024 * 960);
    assert_eq!(receiver.read(&mini(1_025)), Err(HeaderError::UnknownContext(0)));
    assert_eq!(
        receiver.read(&mini(65_535)).unwrap().0.timestamp,
        0u32.wrapping_sub(960)
    );
}

#[test]
fn the_other_streams_header_is_refused() {
    let mut header = plain().next;
    let mut repair = Compressor::new(Stream::Repair);
    let error = repair.write(Instant::ZERO, &mut header, &mut [0; FULL_LEN]);
    assert_eq!(error, Err(wzp_wire::media::WriteError::Stream));
    let mut source = Compressor::new(Stream::Source);
    let error = source.write(Instant::ZERO, &mut header, &mut [0; FULL_LEN - 1]);
    assert_eq!(error, Err(wzp_wire::media::WriteError::BufferTooSmall));
}
