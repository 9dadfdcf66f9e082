//! Sender keys over time: generations of fresh keys, and ratchet steps within a generation.
//!
//! ```text
//! epoch byte      = generation mod 32 (5 bits) ‖ step (3 bits)
//! chain(g, 0)     = 32 random bytes
//! chain(g, s + 1) = HKDF-Expand(chain(g, s), "wzp-e2ee-ratchet-v1", 32)
//! media(g, s, t)  = HKDF-Expand(chain(g, s), "wzp-e2ee-media-v1" ‖ g u32 ‖ s u8 ‖ t u8, 44) = key 32 ‖ salt 12
//! nonce(counter)  = salt xor (6 zero bytes ‖ counter u48)
//! ```
//! with `t` = 0 for the source stream and 1 for the repair stream. A leave begins a generation, a join takes a
//! step, so a receiver that holds a chain finds every later step of its generation in the epoch byte alone.

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::AeadInOut};
use hkdf::Hkdf;
use sha2::Sha256;
use wzp_wire::Stream;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Steps of a generation are 0 to 7.
pub(super) const LAST_STEP: u8 = 7;
/// Length of a packet's authentication tag.
pub(super) const TAG: usize = 16;
/// Counters are below this.
pub(super) const COUNTER_END: u64 = 1 << 48;

/// The epoch byte of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(pub(super) u8);

impl Epoch {
    pub(super) fn new(generation: u32, step: u8) -> Self {
        let [low, ..] = generation.to_le_bytes();
        Self(low << 3 | step)
    }

    pub(super) fn step(self) -> u8 {
        self.0 & LAST_STEP
    }

    /// Whether the byte can be one of this generation.
    pub(super) fn is_of(self, generation: u32) -> bool {
        Self::new(generation, 0).0 == self.0 & !LAST_STEP
    }

    /// Whether its generation is before `generation`, as far as 5 bits tell.
    pub(super) fn is_before(self, generation: u32) -> bool {
        let ahead = (self.0 >> 3).wrapping_sub(Self::new(generation, 0).0 >> 3) & 0x1f;
        ahead >= 16
    }
}

/// The secret from which the media keys of one step and all later steps of its generation follow.
#[derive(Clone)]
pub(super) struct Chain {
    pub(super) generation: u32,
    pub(super) step: u8,
    pub(super) secret: Zeroizing<[u8; 32]>,
}

impl Chain {
    pub(super) fn epoch(&self) -> Epoch {
        Epoch::new(self.generation, self.step)
    }

    /// The next step; none after the last.
    pub(super) fn ratchet(&self) -> Option<Self> {
        if self.step >= LAST_STEP {
            return None;
        }
        let mut secret = Zeroizing::new([0; 32]);
        expand(&self.secret, &[b"wzp-e2ee-ratchet-v1"], secret.as_mut());
        Some(Self {
            generation: self.generation,
            step: self.step + 1,
            secret,
        })
    }

    /// The keys of both streams.
    pub(super) fn media(&self) -> MediaKeys {
        MediaKeys {
            source: self.media_key(0),
            repair: self.media_key(1),
        }
    }

    fn media_key(&self, stream: u8) -> MediaKey {
        let mut bytes = Zeroizing::new([0; 44]);
        let label = b"wzp-e2ee-media-v1";
        expand(
            &self.secret,
            &[label, &self.generation.to_be_bytes(), &[self.step, stream]],
            bytes.as_mut(),
        );
        let mut media = MediaKey {
            key: [0; 32],
            salt: [0; 12],
        };
        media.key.copy_from_slice(&bytes[..32]);
        media.salt.copy_from_slice(&bytes[32..]);
        media
    }
}

/// The keys of one step, for both streams.
#[derive(Clone)]
pub(super) struct MediaKeys {
    source: MediaKey,
    repair: MediaKey,
}

impl MediaKeys {
    pub(super) fn of(&self, stream: Stream) -> &MediaKey {
        match stream {
            Stream::Source => &self.source,
            Stream::Repair => &self.repair,
        }
    }
}

/// A key and the salt of its nonces.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct MediaKey {
    key: [u8; 32],
    salt: [u8; 12],
}

/// It does not authenticate.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

impl MediaKey {
    /// Seals in place. Whoever calls never uses a counter twice under this key.
    pub(super) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG], Forged> {
        let cipher = ChaCha20Poly1305::new(&self.key.into());
        let tag = cipher.encrypt_inout_detached(&self.nonce(counter).into(), aad, text.into());
        tag.map(Into::into).map_err(|_| Forged)
    }

    /// Opens `ciphertext ‖ tag` in place; unchanged unless it authenticates.
    pub(super) fn open<'a>(
        &self,
        counter: u64,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Forged> {
        let (text, tag) = sealed.split_last_chunk_mut::<TAG>().ok_or(Forged)?;
        let cipher = ChaCha20Poly1305::new(&self.key.into());
        cipher
            .decrypt_inout_detached(
                &self.nonce(counter).into(),
                aad,
                (&mut *text).into(),
                &(*tag).into(),
            )
            .map_err(|_| Forged)?;
        Ok(text)
    }

    fn nonce(&self, counter: u64) -> [u8; 12] {
        let mut nonce = self.salt;
        for (byte, counter) in nonce.iter_mut().skip(4).zip(counter.to_be_bytes()) {
            *byte ^= counter;
        }
        nonce
    }

    #[cfg(test)]
    pub(super) fn key_and_nonce(&self, counter: u64) -> ([u8; 32], [u8; 12]) {
        (self.key, self.nonce(counter))
    }
}

/// HKDF-Expand with `secret`, 32 uniformly random bytes, as the pseudorandom key.
#[expect(clippy::expect_used, reason = "32 bytes of PRK and less than 8,160 of output")]
pub(super) fn expand(secret: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    let hkdf = Hkdf::<Sha256>::from_prk(secret).expect("32 bytes");
    hkdf.expand_multi_info(info, out).expect("short output");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn chain() -> Chain {
        Chain {
            generation: 5,
            step: 0,
            secret: Zeroizing::new([0x0b; 32]),
        }
    }

    #[test]
    fn the_key_schedule_has_not_moved() {
        let next = chain().ratchet().unwrap();
        assert_eq!(hex(next.secret.as_ref()), RATCHETED);
        let (key, nonce) = next.media().of(Stream::Repair).key_and_nonce(0x0102_0304_0506);
        assert_eq!((hex(&key), hex(&nonce)), (MEDIA.0.to_owned(), MEDIA.1.to_owned()));
    }

    const RATCHETED: &str = "d2b778eb4cca7590741cc661e4091f24495cb843cb70502a4f5a8a05c369e6a3";
    const MEDIA: (&str, &str) = (
        "c814157271846108854ec7d40f5fba379048f149b55e0e2aa7a764245654ea04",
        "3d76916f6928c2bb4afde03c",
    );

    #[test]
    fn a_generation_has_eight_steps() {
        let mut chain = chain();
        for step in 1..=LAST_STEP {
            chain = chain.ratchet().unwrap();
            assert_eq!((chain.step, chain.epoch().step()), (step, step));
        }
        assert!(chain.ratchet().is_none());
    }

    #[test]
    fn epochs_wrap() {
        assert_eq!(Epoch::new(33, 2), Epoch::new(1, 2));
        assert!(Epoch::new(33, 2).is_of(1) && !Epoch::new(33, 2).is_of(32));
        assert!(Epoch::new(31, 7).is_before(32) && !Epoch::new(33, 0).is_before(32));
        assert!(!Epoch::new(32, 0).is_before(32));
    }

    #[test]
    fn sealing_is_undone_by_opening_and_by_nothing_else() {
        let keys = chain().media();
        let mut packet = *b"hello.................";
        let (text, tag) = packet.split_last_chunk_mut::<TAG>().unwrap();
        *tag = keys.of(Stream::Source).seal(7, b"aad", text).unwrap();
        let sealed = packet;
        assert_eq!(keys.of(Stream::Source).open(8, b"aad", &mut packet), Err(Forged));
        assert_eq!(keys.of(Stream::Source).open(7, b"aax", &mut packet), Err(Forged));
        assert_eq!(keys.of(Stream::Repair).open(7, b"aad", &mut packet), Err(Forged));
        assert_eq!(packet, sealed);
        assert_eq!(
            keys.of(Stream::Source).open(7, b"aad", &mut packet),
            Ok(b"hello.".as_slice())
        );
        assert_eq!(keys.of(Stream::Source).open(7, b"aad", &mut [0; 15]), Err(Forged));
    }
}
