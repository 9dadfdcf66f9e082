use super::*;
use crate::Opener;

const AEADS: [Aead; 2] = [Aead::Aes128Gcm, Aead::ChaCha20Poly1305];

#[test]
fn what_is_sealed_opens() {
    for aead in AEADS {
        let sealer = Sealer::new(Secret::from([1; 32]), aead, LaneId::from_random(&[1, 2]).unwrap());
        let opener = Opener::new(Secret::from([1; 32]), aead, 2);
        for counter in 0..10 {
            let mut buf = [0; 64];
            buf[sealer.header_len()..][..5].copy_from_slice(b"hello");
            let len = sealer.seal(&mut buf, 5, true).unwrap();
            assert_eq!(len, 26);
            let opened = opener.open(&mut buf[..len]).unwrap();
            assert_eq!((opened.counter, opened.newest), (counter, true));
            assert_eq!(&buf[opened.range], b"hello");
        }
    }
}
