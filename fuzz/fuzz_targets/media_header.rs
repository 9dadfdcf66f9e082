//! A full header that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::{Header, clear_level};

fuzz_target!(|bytes: &[u8]| {
    let Ok((header, rest)) = Header::decode(bytes) else {
        return;
    };
    let again = header.encode().expect("a decoded header is in range");
    assert_eq!([&again[..], rest].concat(), bytes);
    assert_eq!(clear_level(bytes), Some(header.level));
});
