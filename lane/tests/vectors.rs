//! The golden vectors in `vectors/`, which another implementation wrote: every packet must be made bit by bit, and
//! open, across generations.

#![expect(clippy::unwrap_used, reason = "a test panics where a vector is wrong")]

use serde_json::Value;
use wzp_lane::{Aead, LaneId, Opener, Sealer, Secret};

const LAST: u64 = 0x3_0000;

struct Vector {
    counter: u64,
    spin: bool,
    datagram: Vec<u8>,
    packet: Vec<u8>,
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn vectors(file: &Value) -> Vec<Vector> {
    let vector = |packet: &Value| Vector {
        counter: packet["counter"].as_u64().unwrap(),
        spin: packet["spin"].as_bool().unwrap(),
        datagram: hex(&packet["datagram"]),
        packet: hex(&packet["packet"]),
    };
    file["packets"].as_array().unwrap().iter().map(vector).collect()
}

fn seal(sealer: &Sealer, datagram: &[u8], spin: bool) -> Vec<u8> {
    let mut packet = vec![0; sealer.overhead() + datagram.len()];
    packet[sealer.header_len()..][..datagram.len()].copy_from_slice(datagram);
    sealer.seal(&mut packet, datagram.len(), spin).unwrap();
    packet
}

/// Walks a lane from its first packet on, as the vectors' counters stand in it.
fn check(aead: Aead, json: &str) {
    let file: Value = serde_json::from_str(json).unwrap();
    let secret = || Secret::from(<[u8; 32]>::try_from(hex(&file["secret_0"])).unwrap());
    let id = LaneId::new(&hex(&file["lane_id"])).unwrap();
    let (sealer, opener) = (
        Sealer::new(secret(), aead, id),
        Opener::new(secret(), aead, id.len()),
    );
    let vectors = vectors(&file);
    let mut found = 0;
    for counter in 0..=LAST {
        let vector = vectors.iter().find(|vector| vector.counter == counter);
        let (datagram, spin) = vector.map_or((&b"xx"[..], false), |v| (&v.datagram, v.spin));
        let mut packet = seal(&sealer, datagram, spin);
        if let Some(vector) = vector {
            assert_eq!(packet, vector.packet, "packet {counter:#x}");
            found += 1;
        }
        let opened = opener.open(&mut packet).unwrap();
        assert_eq!(opened.counter, counter);
        assert_eq!(&packet[opened.range], datagram);
        sealer.confirm(counter);
    }
    assert_eq!(found, vectors.len());
}

#[test]
fn aes_128_gcm() {
    check(Aead::Aes128Gcm, include_str!("../vectors/aes-128-gcm.json"));
}

#[test]
fn chacha20_poly1305() {
    check(
        Aead::ChaCha20Poly1305,
        include_str!("../vectors/chacha20-poly1305.json"),
    );
}
