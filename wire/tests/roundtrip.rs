//! Everything that is written reads back the same, and whatever reads at all is written the same.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use wzp_wire::{
    Codec, Datagram, FecFields, Header, Kind, Level, Ping, Pong, ReceiverReport, SenderId, TrunkWriter,
    clear_level,
    signal::{self, Kind as Signal, SignalError, proto},
};

fn fec(kind: Kind) -> BoxedStrategy<FecFields> {
    let block = |scheme, k, r, index| FecFields { scheme, k, r, index };
    let source =
        (1u8..=15, 0u8..=15).prop_flat_map(move |(k, r)| (0..k).prop_map(move |i| block(1, k, r, i)));
    let repair =
        (1u8..=15, 1u8..=15).prop_flat_map(move |(k, r)| (0..r).prop_map(move |i| block(1, k, r, i)));
    match kind {
        Kind::Repair => repair.boxed(),
        _ => prop_oneof![Just(FecFields::default()), source].boxed(),
    }
}

fn header() -> impl Strategy<Value = Header> {
    prop::sample::select(vec![Kind::Source, Kind::Repair, Kind::ComfortNoise]).prop_flat_map(|kind| {
        let base = if kind == Kind::Repair { 64u8 } else { 0 };
        let codec = prop::sample::select(&Codec::ALL[..]);
        let numbers = (any::<u16>(), any::<u32>(), any::<u8>(), 0u8..64);
        (any::<bool>(), codec, 0u8..16, 1u8..=4, numbers, fec(kind)).prop_map(
            move |(report, codec, level, frames, (seq, timestamp, epoch, id), fec)| Header {
                kind,
                report,
                codec,
                level: Level::new(level).unwrap(),
                frames,
                seq,
                timestamp,
                epoch,
                context: base | id,
                fec,
            },
        )
    })
}

fn sender() -> impl Strategy<Value = SenderId> {
    (1u16..).prop_map(|raw| SenderId::new(raw).unwrap())
}

fn ping() -> impl Strategy<Value = Ping> {
    (any::<[u8; 8]>(), any::<bool>(), any::<u32>()).prop_map(|(nonce, probe, sent_us)| Ping {
        nonce,
        probe,
        sent_us,
    })
}

fn pong() -> impl Strategy<Value = Pong> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    (ping(), any::<u32>(), 0u64..1 << 62, ip, any::<u16>()).prop_map(|(ping, hold, confirmed, ip, port)| {
        Pong::answer(&ping, hold, confirmed, SocketAddr::new(ip, port))
    })
}

fn report() -> impl Strategy<Value = ReceiverReport> {
    let permille = || 0u16..=1_000;
    let shares = (permille(), permille(), permille());
    let times = (any::<u16>(), any::<u16>(), any::<u16>());
    (
        sender(),
        shares,
        times,
        prop_oneof![Just(0u16), 100u16..=500],
        any::<u8>(),
        0u8..=3,
    )
        .prop_map(
            |(
                about,
                (loss, late, concealed),
                (jitter_ms, rtt_ms, delay_ms),
                mos_centi,
                key_mismatch,
                highest_tier,
            )| {
                ReceiverReport {
                    about,
                    loss_permille: loss,
                    late_permille: late,
                    concealed_permille: concealed,
                    jitter_ms,
                    rtt_ms,
                    delay_ms,
                    mos_centi,
                    key_mismatch,
                    highest_tier,
                }
            },
        )
}

/// Random bytes behind a first byte that means something, so that more than the first check is reached.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let random = prop::collection::vec(any::<u8>(), 0..80);
    (random, 0u8..6, any::<bool>()).prop_map(|(mut bytes, kind, keep)| {
        if let Some(first) = bytes.first_mut().filter(|_| !keep) {
            *first = kind;
        }
        bytes
    })
}

/// One damage to a datagram: a flipped bit, a cut, or a byte more.
fn damage(bytes: &mut Vec<u8>, place: prop::sample::Index, how: u8) {
    let at = place.index(bytes.len());
    match how {
        0..8 => bytes[at] ^= 1 << how,
        8 => bytes.truncate(at),
        _ => bytes.push(how),
    }
}

/// What decodes encodes to the very same bytes (a padded PING to its padded length).
fn same_bytes(bytes: &[u8]) {
    let Ok(datagram) = Datagram::decode(bytes) else {
        return;
    };
    let mut out = [0xee; 2_000];
    let len = match datagram {
        Datagram::Ping(ping) => ping.encode_padded(&mut out, bytes.len()),
        other => other.encode(&mut out),
    };
    let len = len.unwrap();
    assert_eq!(&out[..len], bytes);
}

fn written(datagram: Datagram<'_>) -> Vec<u8> {
    let mut out = vec![0; 2_000];
    let len = datagram.encode(&mut out).unwrap();
    assert!(datagram.encode(&mut vec![0; len - 1]).is_err());
    out.truncate(len);
    out
}

proptest! {
    #[test]
    fn headers(header in header(), tail in prop::collection::vec(any::<u8>(), 0..5)) {
        let mut bytes = header.encode().unwrap().to_vec();
        bytes.extend_from_slice(&tail);
        prop_assert_eq!(clear_level(&bytes), Some(header.level));
        prop_assert_eq!(Header::decode(&bytes), Ok((header, &tail[..])));
    }

    #[test]
    fn header_bytes(bytes in bytes()) {
        if let Ok((header, rest)) = Header::decode(&bytes) {
            let again = header.encode().unwrap();
            prop_assert_eq!([&again[..], rest].concat(), bytes);
        }
    }

    #[test]
    fn media(sender in sender(), packet in prop::collection::vec(any::<u8>(), 1..200)) {
        let media = Datagram::Media { sender, packet: &packet };
        let bytes = written(media);
        prop_assert_eq!(Datagram::decode(&bytes), Ok(media));
    }

    #[test]
    fn pings_and_pongs(ping in ping(), pong in pong(), len in 0usize..1_500) {
        for datagram in [Datagram::Ping(ping), Datagram::Pong(pong)] {
            let bytes = written(datagram);
            prop_assert!(bytes.len() <= 48);
            prop_assert_eq!(Datagram::decode(&bytes), Ok(datagram));
        }
        let mut out = vec![0xff; 1_500];
        let written = ping.encode_padded(&mut out, len).unwrap();
        prop_assert_eq!(written, len.max(48));
        prop_assert_eq!(Datagram::decode(&out[..written]), Ok(Datagram::Ping(ping)));
    }

    #[test]
    fn trunks(entries in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..60)), 0..300), room in 0usize..1_500) {
        let mut out = vec![0; room];
        let mut writer = TrunkWriter::new(&mut out);
        let taken: Vec<_> = entries.iter().filter(|(sender, packet)| writer.push(*sender, packet)).collect();
        let Some(len) = writer.finish() else {
            prop_assert!(taken.is_empty());
            return Ok(());
        };
        let Ok(Datagram::Trunk(trunk)) = Datagram::decode(&out[..len]) else { panic!("not a trunk") };
        prop_assert_eq!(trunk.count(), taken.len());
        prop_assert!(trunk.iter().eq(taken.iter().map(|(sender, packet)| (*sender, &packet[..]))));
        same_bytes(&out[..len]);
    }

    #[test]
    fn reports(report in report(), tail in prop::collection::vec(any::<u8>(), 0..5)) {
        let bytes = [&report.encode()[..], &tail].concat();
        prop_assert_eq!(ReceiverReport::decode(&bytes), Ok((report, &tail[..])));
    }

    #[test]
    fn random_bytes_never_panic(bytes in bytes()) {
        same_bytes(&bytes);
        if let Ok((report, rest)) = ReceiverReport::decode(&bytes) {
            prop_assert_eq!([&report.encode()[..], rest].concat(), &bytes[..]);
        }
        let mut decoder = signal::Decoder::new();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next() {}
    }

    #[test]
    fn damaged_datagrams_never_panic(ping in ping(), pong in pong(), place in any::<prop::sample::Index>(), how in 0u8..12) {
        let mut trunk = [0; 40];
        let mut writer = TrunkWriter::new(&mut trunk);
        assert!(writer.push(7, &ping.nonce) && writer.push(8, &pong.nonce));
        let len = writer.finish().unwrap();
        for mut bytes in [written(Datagram::Ping(ping)), written(Datagram::Pong(pong)), trunk[..len].to_vec()] {
            damage(&mut bytes, place, how);
            same_bytes(&bytes);
        }
    }

    #[test]
    fn messages_survive_any_cutting(rooms in prop::collection::vec(".{0,40}", 0..20), pieces in prop::collection::vec(1usize..50, 1..20)) {
        let sent: Vec<_> = rooms.into_iter().map(|room| signal::message(Signal::Join(proto::Join { request: 1, room, ..Default::default() }))).collect();
        let mut stream = Vec::new();
        sent.iter().for_each(|message| signal::encode(message, &mut stream).unwrap());
        let (mut decoder, mut got, mut rest) = (signal::Decoder::new(), Vec::new(), &stream[..]);
        for piece in pieces.iter().cycle() {
            let (part, behind) = rest.split_at(rest.len().min(*piece));
            decoder.push(part);
            while let Some(message) = decoder.next().unwrap() {
                got.push(message);
            }
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, sent);
    }
}

#[test]
fn fields_out_of_range_are_not_written() {
    let good = Header {
        kind: Kind::Source,
        report: false,
        codec: Codec::Opus24k,
        level: Level::SILENCE,
        frames: 1,
        seq: 0,
        timestamp: 0,
        epoch: 0,
        context: 0,
        fec: FecFields::default(),
    };
    assert!(good.encode().is_ok());
    for bad in [
        Header { frames: 0, ..good },
        Header { frames: 5, ..good },
        Header { context: 128, ..good },
        Header { context: 64, ..good },
        Header {
            fec: FecFields {
                scheme: 1,
                k: 16,
                r: 0,
                index: 0,
            },
            ..good
        },
        Header {
            kind: Kind::Repair,
            context: 64,
            ..good
        },
    ] {
        assert!(bad.encode().is_err(), "{bad:?}");
    }
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let join = |len| {
        let room = "x".repeat(len);
        signal::message(Signal::Join(proto::Join {
            room,
            ..Default::default()
        }))
    };
    let mut out = Vec::new();
    // Tag and length of the message and of the room take 4 bytes each at this size.
    signal::encode(&join(signal::MAX_MESSAGE - 8), &mut out).unwrap();
    assert_eq!(out.len(), signal::LENGTH_BYTES + signal::MAX_MESSAGE);
    let error = signal::encode(&join(signal::MAX_MESSAGE - 7), &mut out);
    assert_eq!(error, Err(SignalError::TooLong(signal::MAX_MESSAGE + 1)));
    assert_eq!(out.len(), signal::LENGTH_BYTES + signal::MAX_MESSAGE);
}

#[test]
fn a_decoder_that_is_not_emptied_fails_instead_of_growing() {
    let mut decoder = signal::Decoder::new();
    for _ in 0..20 {
        decoder.push(&[0; 32_768]);
    }
    assert_eq!(decoder.next(), Err(SignalError::Overrun));
    assert_eq!(decoder.next(), Err(SignalError::Overrun));
}
