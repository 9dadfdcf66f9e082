use proptest::prelude::*;

use super::*;
use crate::demux::Class;
use crate::min_packet;

fn server(id: &str) -> ServerId {
    id.parse().unwrap()
}

fn layouts() -> impl Strategy<Value = (Layout, Vec<u8>, u8)> {
    let routable = (
        prop::collection::vec(any::<u8>(), 1..=12),
        0u8..=6,
        any::<prop::sample::Index>(),
    );
    let routable = routable.prop_map(|(bytes, rotation, len)| {
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let least = bytes.len() + 8;
        let len = least + len.index(21 - least);
        let layout = Layout::routable(&server(&text), rotation, Some(len)).unwrap();
        assert_eq!(layout.len(), len);
        (layout, bytes, rotation)
    });
    prop_oneof![1 => Just((Layout::default(), Vec::new(), 0)), 4 => routable]
}

/// A short-header packet to `id`, just long enough for a lane.
fn packet(id: LaneId) -> Vec<u8> {
    let mut packet = vec![0x40];
    packet.extend(id.as_slice());
    packet.resize(min_packet(id.len()), 0);
    packet
}

proptest! {
    #[test]
    fn lanes_and_connections_are_never_confused((layout, ..) in layouts(), random: Random) {
        let (quic, lane) = (layout.id(Kind::Quic, random), layout.id(Kind::Lane, random));
        prop_assert_eq!((quic.len(), lane.len()), (layout.len(), layout.len()));
        prop_assert_eq!(layout.kind(quic.as_slice()), Some(Kind::Quic));
        prop_assert_eq!(layout.kind(lane.as_slice()), Some(Kind::Lane));
        let rule = layout.rule();
        prop_assert_eq!(rule.classify(&packet(quic)), Class::Quic);
        prop_assert_eq!(rule.classify(&packet(lane)), Class::Lane);
        let whole = packet(lane);
        prop_assert_eq!(rule.id(&whole), Some(lane.as_slice()));
        prop_assert_eq!(rule.classify(&whole[..whole.len() - 1]), Class::Quic);
    }

    /// As a load balancer reads them, and with every other bit left to the nonce.
    #[test]
    fn the_server_id_stands_behind_the_first_byte((layout, server, rotation) in layouts(), random: Random) {
        for kind in [Kind::Quic, Kind::Lane] {
            let id = layout.id(kind, random);
            let id = id.as_slice();
            let nonce_at = if server.is_empty() { 0 } else { 1 + server.len() };
            if nonce_at > 0 {
                prop_assert_eq!(id[0], rotation << 5 | random[0] & 0x1f);
                prop_assert_eq!(&id[1..nonce_at], server.as_slice());
                prop_assert!(id.len() - nonce_at >= 7);
            }
            prop_assert_eq!(id[nonce_at] & 0x7f, random[nonce_at] & 0x7f);
            prop_assert_eq!(&id[nonce_at + 1..], &random[nonce_at + 1..id.len()]);
            prop_assert!(nonce_at < id.len() - Layout::CHECK_LEN, "the check spares the mark");
        }
    }

    #[test]
    fn the_id_of_another_server_is_not_ours(random: Random, bit in 0usize..64) {
        let layout = Layout::routable(&server("0123456789abcdef"), 2, None).unwrap();
        let mut id = layout.id(Kind::Quic, random).as_slice().to_vec();
        id[1 + bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(layout.kind(&id), None);
    }

    #[test]
    fn whatever_is_asked_is_in_range_or_refused(bytes in 1usize..=12, rotation: u8, len in 0usize..40) {
        let server = server(&"5a".repeat(bytes));
        let made = Layout::routable(&server, rotation, Some(len));
        prop_assert_eq!(made.is_ok(), rotation <= 6 && (bytes + 8..=20).contains(&len));
    }
}

#[test]
fn the_default_is_eight_bytes_marked_by_the_first_bit() {
    let layout = Layout::default();
    assert_eq!(layout.len(), 8);
    let random = std::array::from_fn(|i| u8::try_from(i).unwrap() + 0x10);
    assert_eq!(format!("{:?}", layout.id(Kind::Quic, random)), "1011121314151617");
    assert_eq!(format!("{:?}", layout.id(Kind::Lane, random)), "9011121314151617");
    assert_eq!(layout.rule(), Rule::marked_at(0, 8));
}

#[test]
fn eight_bytes_of_server_id_make_sixteen() {
    let layout = Layout::routable(&server("0xa0b1c2d3e4f50617"), 0, None).unwrap();
    assert_eq!(layout.len(), 16);
    let id = layout.id(Kind::Lane, [0; 20]);
    assert_eq!(format!("{id:?}"), "00a0b1c2d3e4f5061780000000000000");
}

#[test]
fn ids_of_another_length_or_configuration_are_not_ours() {
    let layout = Layout::routable(&server("aa"), 3, None).unwrap();
    let id = layout.id(Kind::Quic, [0xff; 20]);
    assert_eq!(layout.kind(&id.as_slice()[..8]), None);
    assert_eq!(layout.kind(&[0; 9]), None);
    assert_eq!(layout.kind(&[]), None);
}

#[test]
fn what_is_wrong_is_said() {
    let length = Layout::routable(&server("0123456789abcdef"), 0, Some(15)).unwrap_err();
    assert_eq!(
        length.to_string(),
        "ids with a server id of 8 bytes are 16 to 20 bytes long, not 15"
    );
    assert_eq!(
        Layout::routable(&server("01"), 7, None),
        Err(LayoutError::Rotation(7))
    );
    for bad in [
        "",
        "0x",
        "1",
        "123",
        "0x0g",
        "é0",
        "00:11",
        " 00",
        "0X00",
        &"00".repeat(13),
    ] {
        assert_eq!(bad.parse::<ServerId>(), Err(BadServerId), "{bad:?}");
    }
    assert_eq!(format!("{:?}", server("0x00Ff")), "00ff");
}
