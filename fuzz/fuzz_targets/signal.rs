//! A stream gives the same messages however it is cut, and they survive being sent again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::signal::{self, Decoder, Hello, Join, Joined, Kind, SignalMessage, TrunkJoin, TrunkJoined, Welcome, proto};

fuzz_target!(|bytes: &[u8]| {
    let whole = messages(bytes, bytes.len().max(1));
    assert_eq!(messages(bytes, 3), whole);
    let mut stream = Vec::new();
    for message in &whole {
        // Encoding may be longer than what was read (a field sent twice), so it may not fit.
        if signal::encode(message, &mut stream).is_err() {
            return;
        }
        if let Some(kind) = &message.kind {
            check(kind.clone());
        }
    }
    assert_eq!(messages(&stream, 1_000), whole);
});

fn messages(bytes: &[u8], piece: usize) -> Vec<SignalMessage> {
    let (mut decoder, mut got) = (Decoder::new(), Vec::new());
    for part in bytes.chunks(piece) {
        decoder.push(part);
        while let Ok(Some(message)) = decoder.next() {
            got.push(message);
        }
    }
    got
}

/// What passes the checks passes them again after a round trip, unchanged.
fn check(kind: Kind) {
    match kind {
        Kind::Hello(raw) => {
            if let Ok(hello) = Hello::try_from(raw) {
                assert_eq!(Hello::try_from(proto::Hello::from(hello.clone())), Ok(hello));
            }
        }
        Kind::Welcome(raw) => {
            if let Ok(welcome) = Welcome::try_from(raw) {
                assert_eq!(
                    Welcome::try_from(proto::Welcome::from(welcome.clone())),
                    Ok(welcome)
                );
            }
        }
        Kind::Join(raw) => {
            if let Ok(join) = Join::try_from(raw) {
                assert_eq!(Join::try_from(proto::Join::from(join.clone())), Ok(join));
            }
        }
        Kind::Joined(raw) => {
            if let Ok(joined) = Joined::try_from(raw) {
                assert_eq!(Joined::try_from(proto::Joined::from(joined.clone())), Ok(joined));
            }
        }
        Kind::TrunkJoin(raw) => {
            if let Ok(join) = TrunkJoin::try_from(raw) {
                assert_eq!(
                    TrunkJoin::try_from(proto::TrunkJoin::from(join.clone())),
                    Ok(join)
                );
            }
        }
        Kind::TrunkJoined(raw) => {
            if let Ok(joined) = TrunkJoined::try_from(raw) {
                assert_eq!(
                    TrunkJoined::try_from(proto::TrunkJoined::from(joined.clone())),
                    Ok(joined)
                );
            }
        }
        _ => {}
    }
}
