//! A trunk that decodes, written again packet by packet, is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_wire::{Datagram, TrunkWriter};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Datagram::Trunk(trunk)) = Datagram::decode(bytes) else {
        return;
    };
    let mut out = vec![0; bytes.len()];
    let mut writer = TrunkWriter::new(&mut out);
    let mut count = 0;
    for (sender, packet) in trunk {
        assert!(writer.push(sender, packet));
        count += 1;
    }
    assert_eq!(count, trunk.count());
    assert_eq!(writer.finish(), Some(bytes.len()));
    assert_eq!(out, bytes);
});
