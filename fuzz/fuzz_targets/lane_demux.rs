//! Every datagram of every length is sorted, and only what an opener accepts as long enough is a lane packet, wherever
//! the mark of the receiver's ids is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wzp_lane::demux::{Class, DropReason, Rule};
use wzp_lane::ids::{Kind, Layout, ServerId};
use wzp_lane::{LaneId, min_packet};

/// 20 rules for ids of 1 to 20 bytes by their first bit, then one for each length of a server id.
fn rule(choice: u8) -> (Rule, usize, Option<Layout>) {
    let len = usize::from(choice % 32) + 1;
    if len <= 20 {
        return (Rule::first_bit(len), len, None);
    }
    let server: ServerId = "a5".repeat(len - 20).parse().expect("1 to 12 bytes");
    let layout = Layout::routable(&server, choice >> 5, Some(20)).unwrap_or_default();
    (layout.rule(), layout.len(), Some(layout))
}

fuzz_target!(|input: (u8, &[u8])| {
    let ((rule, id_len, layout), datagram) = (rule(input.0), input.1);
    match rule.classify(datagram) {
        Class::Lane => {
            assert!(datagram.len() >= min_packet(id_len));
            assert_eq!(datagram[0] & 0xc0, 0x40);
            let id = rule.id(datagram).expect("a lane packet has an id");
            assert_eq!(id, &datagram[1..=id_len]);
            match layout {
                Some(layout) => assert_ne!(layout.kind(id), Some(Kind::Quic)),
                None => assert!(LaneId::new(id).expect("1 to 20 bytes").is_marked()),
            }
        }
        Class::Quic => assert!(datagram[0] & 0xc0 != 0),
        Class::Drop(DropReason::Empty) => assert!(datagram.is_empty()),
        Class::Drop(DropReason::FixedBit) => assert_eq!(datagram[0] & 0xc0, 0),
    }
});
