//! A receiver report that decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::ReceiverReport;

fuzz_target!(|bytes: &[u8]| {
    let Ok((report, rest)) = ReceiverReport::decode(bytes) else {
        return;
    };
    assert_eq!([&report.encode()[..], rest].concat(), bytes);
});
