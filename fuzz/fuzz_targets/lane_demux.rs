//! Every datagram of every length is sorted, and only what an opener accepts as long enough is a lane packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_lane::demux::{self, Class, DropReason};
use wzp_lane::min_packet;

fuzz_target!(|input: (u8, &[u8])| {
    let (id_len, datagram) = (usize::from(input.0 % 20) + 1, input.1);
    match demux::classify(datagram, id_len) {
        Class::Lane => {
            assert!(datagram.len() >= min_packet(id_len));
            assert_eq!(datagram[0] & 0xc0, 0x40);
            let id = demux::lane_id(datagram, id_len).expect("a lane packet has an id");
            assert!(id.is_marked());
            assert_eq!(id.as_slice(), &datagram[1..=id_len]);
        }
        Class::Quic => assert!(datagram[0] & 0xc0 != 0),
        Class::Drop(DropReason::Empty) => assert!(datagram.is_empty()),
        Class::Drop(DropReason::FixedBit) => assert_eq!(datagram[0] & 0xc0, 0),
    }
});
