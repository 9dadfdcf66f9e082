//! A datagram that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::Datagram;

fuzz_target!(|bytes: &[u8]| {
    let Ok(datagram) = Datagram::decode(bytes) else {
        return;
    };
    let mut out = vec![0xff; bytes.len()];
    let len = match datagram {
        Datagram::Ping(ping) => ping.encode_padded(&mut out, bytes.len()),
        other => other.encode(&mut out),
    };
    assert_eq!(len, Ok(bytes.len()));
    assert_eq!(out, bytes);
});
