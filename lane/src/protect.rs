//! Packet and header protection of RFC 9001 sections 5.3 and 5.4, and its key schedule.

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, quic::HeaderProtectionKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::{Zeroize, Zeroizing};

use crate::{Aead, Secret, TAG_LEN};

/// The counter's start is this far before the sample.
pub(crate) const SAMPLE_OFFSET: usize = 4;

const SAMPLE_LEN: usize = 16;
const IV_LEN: usize = 12;
const AES_128_KEY_LEN: usize = 16;
const CHACHA20_KEY_LEN: usize = 32;

/// Encrypts and authenticates the packets of one generation.
pub(crate) struct PacketKey {
    key: LessSafeKey,
    iv: [u8; IV_LEN],
}

impl PacketKey {
    pub(crate) fn new(aead: Aead, secret: &Secret) -> Self {
        let key = with_key(aead, secret, b"quic key", |bytes| {
            UnboundKey::new(aead.algorithm(), bytes)
        });
        Self {
            key: LessSafeKey::new(key),
            iv: *expand_label(secret, b"quic iv"),
        }
    }

    /// Seals in place; `None` only for a datagram longer than the AEAD allows.
    pub(crate) fn seal(&self, counter: u64, header: &[u8], datagram: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(counter), Aad::from(header), datagram)
            .ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Opens in place. On failure the ciphertext is blanked, the tag behind it is left as it was.
    pub(crate) fn open(&self, counter: u64, header: &[u8], sealed: &mut [u8]) -> bool {
        self.key
            .open_in_place(self.nonce(counter), Aad::from(header), sealed)
            .is_ok()
    }

    fn nonce(&self, counter: u64) -> Nonce {
        let mut nonce = self.iv;
        for (byte, counter) in nonce.iter_mut().skip(IV_LEN - 8).zip(counter.to_be_bytes()) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for PacketKey {
    fn drop(&mut self) {
        self.iv.zeroize();
    }
}

/// Hides the counter and the low bits of the first byte, with one key for the whole life of a lane: the key
/// phase is only read after header protection is off, so this key cannot depend on it.
pub(crate) struct HeaderKey(HeaderProtectionKey);

impl HeaderKey {
    pub(crate) fn new(aead: Aead, secret_0: &Secret) -> Self {
        Self(with_key(aead, secret_0, b"quic hp", |bytes| {
            HeaderProtectionKey::new(aead.header_algorithm(), bytes)
        }))
    }

    /// The mask of a packet whose counter starts at `counter_at`; `None` when it is too short for a sample.
    pub(crate) fn mask(&self, packet: &[u8], counter_at: usize) -> Option<[u8; 5]> {
        let sample_at = counter_at + SAMPLE_OFFSET;
        self.0
            .new_mask(packet.get(sample_at..sample_at + SAMPLE_LEN)?)
            .ok()
    }
}

/// Hides or reveals the protected bits of a short header whose counter is `counter`.
pub(crate) fn apply_mask(mask: [u8; 5], first: &mut u8, counter: &mut [u8]) {
    let [mask_first, mask_counter @ ..] = mask;
    *first ^= mask_first & 0x1f;
    for (byte, mask) in counter.iter_mut().zip(mask_counter) {
        *byte ^= mask;
    }
}

/// The secret of the generation after the one of `secret`.
pub(crate) fn next_secret(secret: &Secret) -> Secret {
    Secret::from(*expand_label(secret, b"quic ku"))
}

#[expect(clippy::expect_used, reason = "each algorithm gets a key of its own length")]
fn with_key<T>(
    aead: Aead,
    secret: &Secret,
    label: &[u8],
    make: impl FnOnce(&[u8]) -> Result<T, ring::error::Unspecified>,
) -> T {
    match aead {
        Aead::Aes128Gcm => make(&*expand_label::<AES_128_KEY_LEN>(secret, label)),
        Aead::ChaCha20Poly1305 => make(&*expand_label::<CHACHA20_KEY_LEN>(secret, label)),
    }
    .expect("the key has the algorithm's length")
}

/// HKDF-Expand-Label of RFC 8446 with SHA-256 and an empty context.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 yields up to 8,160 bytes, and none here is over 32"
)]
fn expand_label<const N: usize>(secret: &Secret, label: &[u8]) -> Zeroizing<[u8; N]> {
    const PREFIX: &[u8] = b"tls13 ";
    let lengths = [0, N as u8, (PREFIX.len() + label.len()) as u8];
    let info: [&[u8]; 4] = [&lengths, PREFIX, label, &[0]];
    let mut out = Zeroizing::new([0; N]);
    Prk::new_less_safe(HKDF_SHA256, secret.bytes())
        .expand(&info, Length(N))
        .and_then(|okm| okm.fill(&mut *out))
        .expect("the output is short");
    out
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
#[path = "protect/rfc9001_tests.rs"]
mod rfc9001_tests;
