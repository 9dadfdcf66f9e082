//! The secrets of direct lanes, which are keyed before any QUIC connection exists.
//!
//! ```text
//! salt     = SHA-256(SHA-256(offer) ‖ SHA-256(answer))
//! ikm      = DH of the two ephemerals ‖ pair secret
//! info     = "wzp-lane direct" ‖ direction u8 ‖ lane number u16 ‖ AEAD u8
//! secret_0 = HKDF-SHA256(salt, ikm, info), 32 bytes
//! ```
//!
//! Offer and answer are the signed messages, so a downgrade or another candidate list gives other keys; both
//! ephemerals are fresh, so the keys are too, whichever side restarted or replays.

use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::Zeroizing;

use crate::{Aead, Secret};

const LABEL: &[u8] = b"wzp-lane direct";

/// Who sends on a direct lane: by role, never by fingerprint, since two devices may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DirectSender {
    /// Whose offer stands.
    Offerer = 0,
    /// Who answered it.
    Answerer = 1,
}

/// What two peers share after offer and answer; gives the secret of each lane between them. Wiped when dropped.
pub struct DirectKeys {
    salt: Salt,
    shared: Zeroizing<[u8; 64]>,
}

impl DirectKeys {
    /// From the two signed messages as sent, the result of the ephemerals' X25519, and the pair secret.
    ///
    /// `None` when the X25519 result is all zero, which a peer can force and which hides nothing.
    pub fn new(offer: &[u8], answer: &[u8], ephemeral: &[u8; 32], pair: &[u8; 32]) -> Option<Self> {
        let [mut hashes, mut shared] = [[0; 64]; 2];
        join(
            &mut hashes,
            digest(&SHA256, offer).as_ref(),
            digest(&SHA256, answer).as_ref(),
        );
        join(&mut shared, ephemeral, pair);
        let shared = Zeroizing::new(shared);
        let any = ephemeral.iter().fold(0, |any, byte| any | byte);
        (any != 0).then(|| Self {
            salt: Salt::new(HKDF_SHA256, digest(&SHA256, &hashes).as_ref()),
            shared,
        })
    }

    /// `secret_0` of one lane.
    #[expect(
        clippy::expect_used,
        reason = "HKDF-SHA256 yields up to 8,160 bytes, and this is 32"
    )]
    pub fn secret(&self, sender: DirectSender, number: u16, aead: Aead) -> Secret {
        let number = number.to_be_bytes();
        let info: [&[u8]; 4] = [LABEL, &[sender as u8], &number, &[aead.code()]];
        let mut secret = Zeroizing::new([0; Secret::LEN]);
        self.salt
            .extract(&*self.shared)
            .expand(&info, HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *secret))
            .expect("the output is short");
        Secret::from(*secret)
    }
}

fn join(to: &mut [u8; 64], first: &[u8], second: &[u8]) {
    for (to, from) in to.iter_mut().zip(first.iter().chain(second)) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AEADS: [Aead; 2] = [Aead::Aes128Gcm, Aead::ChaCha20Poly1305];

    fn keys(offer: &[u8], answer: &[u8], ephemeral: u8, pair: u8) -> DirectKeys {
        DirectKeys::new(offer, answer, &[ephemeral; 32], &[pair; 32]).unwrap()
    }

    #[test]
    fn agrees_with_another_implementation() {
        let secret = keys(b"offer", b"answer", 1, 2).secret(DirectSender::Answerer, 0x0304, Aead::Aes128Gcm);
        assert_eq!(
            secret.bytes()[..],
            hex("9005853351ff63f960197d64da6593aeca2eba2723acc2b766f158a716969c65")
        );
    }

    #[test]
    fn everything_that_was_agreed_changes_the_key() {
        let mut secrets = BTreeSet::new();
        for keys in [
            keys(b"offer", b"answer", 1, 2),
            keys(b"offeR", b"answer", 1, 2),
            keys(b"offer", b"answeR", 1, 2),
            keys(b"offer", b"answer", 3, 2),
            keys(b"offer", b"answer", 1, 3),
        ] {
            for sender in [DirectSender::Offerer, DirectSender::Answerer] {
                for (number, aead) in [0, 1].into_iter().zip(AEADS).chain([1, 0].into_iter().zip(AEADS)) {
                    assert!(secrets.insert(*keys.secret(sender, number, aead).bytes()));
                }
            }
        }
        assert_eq!(secrets.len(), 40);
    }

    #[test]
    fn refuses_an_all_zero_exchange() {
        assert!(DirectKeys::new(b"offer", b"answer", &[0; 32], &[2; 32]).is_none());
    }

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
            .collect()
    }
}
