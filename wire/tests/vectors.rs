//! The golden vectors of `wire/vectors/`, in both directions.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use wzp_wire::{
    Codec, Datagram, DatagramError, Decompressor, FecFields, Header, HeaderError, Kind, Level, Ping, Pong,
    ReceiverReport, ReportError, SenderId, TrunkWriter,
    signal::{self, Kind as Signal, SignalError, SignalMessage, proto},
};

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    json["vectors"].as_array().unwrap().clone()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn header(fields: &Value) -> Header {
    let field = |name: &str| &fields[name];
    Header {
        kind: match field("kind").as_str().unwrap() {
            "source" => Kind::Source,
            "repair" => Kind::Repair,
            _ => Kind::ComfortNoise,
        },
        report: field("report").as_bool().unwrap(),
        codec: match field("codec").as_str().unwrap() {
            "opus24k" => Codec::Opus24k,
            "opus6k" => Codec::Opus6k,
            _ => Codec::Codec2_1200,
        },
        level: Level::new(number(field("level"))).unwrap(),
        frames: number(field("frames")),
        seq: number(field("seq")),
        timestamp: number(field("timestamp")),
        epoch: number(field("epoch")),
        context: number(field("context")),
        fec: FecFields {
            scheme: number(field("scheme")),
            k: number(field("k")),
            r: number(field("r")),
            index: number(field("index")),
        },
    }
}

fn header_error(error: HeaderError) -> String {
    match error {
        HeaderError::Truncated => "truncated".to_owned(),
        HeaderError::Version => "version".to_owned(),
        HeaderError::Reserved(field) => format!("reserved {field}"),
        HeaderError::UnknownContext(context) => format!("unknown context {context}"),
        _ => unreachable!(),
    }
}

fn datagram_error(error: DatagramError) -> String {
    match error {
        DatagramError::Truncated => "truncated".to_owned(),
        DatagramError::Reserved => "reserved".to_owned(),
        DatagramError::Trailing => "trailing".to_owned(),
        DatagramError::Kind(kind) => format!("kind {kind}"),
        _ => unreachable!(),
    }
}

#[test]
fn media_headers() {
    for vector in vectors("media_header") {
        let bytes = hex(&vector["hex"]);
        match Header::decode(&bytes) {
            Ok((got, rest)) => {
                assert_eq!((got, rest.len()), (header(&vector["header"]), 0), "{vector}");
                assert_eq!(got.encode().unwrap()[..], bytes, "{vector}");
            }
            Err(error) => assert_eq!(Some(&*header_error(error)), vector["error"].as_str(), "{vector}"),
        }
    }
}

#[test]
fn mini_streams() {
    let mut receiver = Decompressor::new();
    for vector in vectors("mini_stream") {
        let bytes = hex(&vector["hex"]);
        match receiver.read(&bytes) {
            Ok((got, _, len)) => {
                assert_eq!((got, len), (header(&vector["header"]), bytes.len()), "{vector}");
                if vector["accept"] == true {
                    receiver.accept(&got);
                }
            }
            Err(error) => assert_eq!(Some(&*header_error(error)), vector["error"].as_str(), "{vector}"),
        }
    }
}

fn check_ping(ping: Ping, fields: &Value, bytes: &[u8]) {
    let nonce = hex(&fields["nonce"]).try_into().unwrap();
    let probe = fields["probe"].as_bool().unwrap();
    assert_eq!(
        ping,
        Ping {
            nonce,
            probe,
            sent_us: number(&fields["sent_us"])
        }
    );
    let mut out = [0xff; 1_500];
    let len = ping.encode_padded(&mut out, number(&fields["length"])).unwrap();
    assert_eq!(&out[..len], bytes);
}

fn check_pong(pong: Pong, fields: &Value, bytes: &[u8]) {
    let ping = Ping {
        nonce: hex(&fields["nonce"]).try_into().unwrap(),
        probe: fields["probe"].as_bool().unwrap(),
        sent_us: number(&fields["sent_us"]),
    };
    let confirmed = u64::from_str_radix(fields["confirmed"].as_str().unwrap(), 16).unwrap();
    let observed = fields["observed"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        pong,
        Pong::answer(&ping, number(&fields["hold_us"]), confirmed, observed)
    );
    let mut out = [0xff; 64];
    let len = Datagram::Pong(pong).encode(&mut out).unwrap();
    assert_eq!(&out[..len], bytes);
}

#[test]
fn datagrams() {
    for vector in vectors("datagram") {
        let bytes = hex(&vector["hex"]);
        match Datagram::decode(&bytes) {
            Ok(Datagram::Media { sender, packet }) => {
                let fields = &vector["media"];
                assert_eq!(Some(sender), SenderId::new(number(&fields["sender"])));
                assert_eq!(packet, hex(&fields["packet"]));
                let mut out = [0xff; 64];
                let len = Datagram::Media { sender, packet }.encode(&mut out).unwrap();
                assert_eq!(&out[..len], bytes);
            }
            Ok(Datagram::Ping(ping)) => check_ping(ping, &vector["ping"], &bytes),
            Ok(Datagram::Pong(pong)) => check_pong(pong, &vector["pong"], &bytes),
            Ok(Datagram::Trunk(_)) => panic!("{vector}"),
            Err(error) => assert_eq!(
                Some(&*datagram_error(error)),
                vector["error"].as_str(),
                "{vector}"
            ),
        }
    }
}

#[test]
fn trunks() {
    for vector in vectors("trunk") {
        let bytes = hex(&vector["hex"]);
        match Datagram::decode(&bytes) {
            Ok(Datagram::Trunk(trunk)) => {
                let entries = vector["entries"].as_array().unwrap().iter();
                let wanted: Vec<(u16, Vec<u8>)> = entries.map(|e| (number(&e[0]), hex(&e[1]))).collect();
                let got: Vec<_> = trunk
                    .iter()
                    .map(|(sender, packet)| (sender, packet.to_vec()))
                    .collect();
                assert_eq!((&got, trunk.count()), (&wanted, wanted.len()), "{vector}");
                let mut out = vec![0; bytes.len()];
                let mut writer = TrunkWriter::new(&mut out);
                assert!(wanted.iter().all(|(sender, packet)| writer.push(*sender, packet)));
                assert!(!writer.push(1, &[1]));
                assert_eq!((writer.finish(), &out), (Some(bytes.len()), &bytes));
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(
                Some(&*datagram_error(error)),
                vector["error"].as_str(),
                "{vector}"
            ),
        }
    }
}

#[test]
fn reports() {
    for vector in vectors("report") {
        let bytes = hex(&vector["hex"]);
        let error = match ReceiverReport::decode(&bytes) {
            Ok((got, rest)) => {
                let field = |name: &str| number(&vector["report"][name]);
                let byte = |name: &str| number(&vector["report"][name]);
                let wanted = ReceiverReport {
                    about: SenderId::new(field("about")).unwrap(),
                    loss_permille: field("loss_permille"),
                    late_permille: field("late_permille"),
                    concealed_permille: field("concealed_permille"),
                    jitter_ms: field("jitter_ms"),
                    rtt_ms: field("rtt_ms"),
                    delay_ms: field("delay_ms"),
                    mos_centi: field("mos_centi"),
                    key_mismatch: byte("key_mismatch"),
                    highest_tier: byte("highest_tier"),
                };
                assert_eq!((got, rest.len()), (wanted, 0), "{vector}");
                assert_eq!(got.encode()[..], bytes);
                continue;
            }
            Err(ReportError::Truncated) => "truncated",
            Err(ReportError::Reserved) => "reserved",
        };
        assert_eq!(Some(error), vector["error"].as_str(), "{vector}");
    }
}

fn named(name: &str) -> SignalMessage {
    signal::message(match name {
        "leave" => Signal::Leave(proto::Leave {}),
        "keepalive" => Signal::Keepalive(proto::Keepalive {}),
        "join" => Signal::Join(proto::Join {
            request: 7,
            room: "kitchen".to_owned(),
            announcement: vec![0xaa, 0xbb],
            echo: true,
            standby: false,
        }),
        "refused" => Signal::Refused(proto::Refused {
            request: 7,
            reason: signal::Reason::RoomFull.into(),
            text: "full".to_owned(),
            retry_after_ms: 5_000,
        }),
        "lane_offer" => Signal::LaneOffer(proto::LaneOffer {
            number: 1,
            lane_id: vec![0xc5, 0x01],
            aeads: vec![2, 1],
        }),
        other => panic!("{other}"),
    })
}

fn read_all(decoder: &mut signal::Decoder, got: &mut Vec<SignalMessage>) -> Option<&'static str> {
    loop {
        match decoder.next() {
            Ok(Some(message)) => got.push(message),
            Ok(None) => return None,
            Err(SignalError::TooLong(_)) => return Some("too long"),
            Err(SignalError::Malformed(_)) => return Some("malformed"),
            Err(SignalError::Overrun) => return Some("overrun"),
        }
    }
}

#[test]
fn signal_streams() {
    for vector in vectors("signal") {
        let bytes = hex(&vector["hex"]);
        let wanted: Vec<_> = vector["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| named(name.as_str().unwrap()))
            .collect();
        for piece in [1, 3, bytes.len()] {
            let (mut decoder, mut got, mut error) = (signal::Decoder::new(), Vec::new(), None);
            for part in bytes.chunks(piece) {
                decoder.push(part);
                error = read_all(&mut decoder, &mut got);
            }
            assert_eq!(got, wanted, "{vector}");
            assert_eq!(error, vector["error"].as_str(), "{vector}");
            assert_eq!(
                decoder.skipped(),
                vector["skipped"].as_u64().unwrap_or(0),
                "{vector}"
            );
        }
        if wanted.len() == 1 && vector["skipped"].is_null() && vector["name"] == vector["messages"][0] {
            let mut out = Vec::new();
            signal::encode(&wanted[0], &mut out).unwrap();
            assert_eq!(out, bytes, "{vector}");
        }
    }
}
