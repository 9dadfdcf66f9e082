//! The two AEADs of lanes, and which of them this processor should use.

use ring::aead::quic;

/// How a lane's packets are encrypted; agreed at set-up and bound into the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Aead {
    /// AES-128-GCM: for processors with AES and carry-less multiplication instructions.
    Aes128Gcm = 1,
    /// ChaCha20-Poly1305: fast everywhere.
    ChaCha20Poly1305 = 2,
}

impl Aead {
    /// What this machine offers, best first. ChaCha20-Poly1305 is always among them.
    pub fn supported() -> &'static [Self] {
        if has_aes_instructions() {
            &[Self::Aes128Gcm, Self::ChaCha20Poly1305]
        } else {
            &[Self::ChaCha20Poly1305]
        }
    }

    /// The best of `ours`, best first, that is among those the peer offered, by wire value.
    pub fn choose(ours: &[Self], offered: &[u32]) -> Option<Self> {
        ours.iter()
            .copied()
            .find(|aead| offered.contains(&u32::from(aead.code())))
    }

    /// The AEAD of a wire value.
    pub fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Aes128Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// The value that stands for it on the wire and in the key derivation.
    pub const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn algorithm(self) -> &'static ring::aead::Algorithm {
        match self {
            Self::Aes128Gcm => &ring::aead::AES_128_GCM,
            Self::ChaCha20Poly1305 => &ring::aead::CHACHA20_POLY1305,
        }
    }

    pub(crate) fn header_algorithm(self) -> &'static quic::Algorithm {
        match self {
            Self::Aes128Gcm => &quic::AES_128,
            Self::ChaCha20Poly1305 => &quic::CHACHA20,
        }
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_own_favourite_among_the_offered() {
        let ours = Aead::supported();
        assert_eq!(Aead::choose(ours, &[9, 2]), Some(Aead::ChaCha20Poly1305));
        assert_eq!(Aead::choose(ours, &[2, 1]), ours.first().copied());
        assert_eq!(Aead::choose(ours, &[0, 3, 258]), None);
        let without_aes = &[Aead::ChaCha20Poly1305];
        assert_eq!(Aead::choose(without_aes, &[1, 2]), Some(Aead::ChaCha20Poly1305));
        assert_eq!(Aead::choose(without_aes, &[1]), None);
    }

    #[test]
    fn codes_round_trip() {
        for aead in [Aead::Aes128Gcm, Aead::ChaCha20Poly1305] {
            assert_eq!(Aead::from_code(u32::from(aead.code())), Some(aead));
        }
        assert_eq!(Aead::from_code(0), None);
    }
}
