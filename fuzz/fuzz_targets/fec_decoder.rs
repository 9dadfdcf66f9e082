//! Packets of a hostile but authenticated peer: the FEC decoder never panics, hands out no more than it was given, and
//! accounts for every packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_sdk_core::voice::fec::{Decoder, Frame, MAX_SYMBOL_BYTES};
use wzp_wire::Header;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new();
    let (mut pushed, mut refused) = (0, 0);
    let mut rest = bytes;
    // Each packet: length of the payload, full header, payload.
    while let Some((len, packet)) = rest.split_first() {
        let Ok((header, payload)) = Header::decode(packet) else {
            break;
        };
        let (payload, behind) = payload.split_at(usize::from(*len).min(payload.len()));
        rest = behind;
        let mut bytes = 0;
        let outcome = decoder.push(&header, payload, &mut |frame: Frame<'_>| {
            assert!(!frame.bytes.is_empty());
            bytes += frame.bytes.len();
        });
        pushed += 1;
        refused += u64::from(outcome.is_err());
        assert!(outcome.is_ok() || bytes == 0);
        // The packet's own frames, and at most a block of recovered ones.
        assert!(bytes <= 16 * MAX_SYMBOL_BYTES);
    }
    let stats = decoder.stats();
    assert_eq!(stats.late + stats.known + stats.refused, refused);
    assert!(refused <= pushed);
});
