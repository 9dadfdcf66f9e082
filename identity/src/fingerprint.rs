//! The user's address: the first 16 bytes of SHA-256 over the Ed25519 public key.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// 16 bytes, shown as 8 groups of 4 hex digits: `0123 4567 89ab cdef 0123 4567 89ab cdef`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 32 hex digits; spaces, colons and dashes between them are ignored")]
pub struct FingerprintError;

impl Fingerprint {
    /// From the 16 bytes themselves.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 32 hex digits without spaces: file names, tokens, command lines.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn of_key(key: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(key)[..16]);
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pair) in self.0.chunks_exact(2).enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let mut bytes = [0u8; 16];
        let mut count = 0;
        for letter in text.trim().chars() {
            if matches!(letter, ' ' | ':' | '-') {
                continue;
            }
            let digit = letter
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or(FingerprintError)?;
            let byte: &mut u8 = bytes.get_mut(count / 2).ok_or(FingerprintError)?;
            *byte = *byte << 4 | digit;
            count += 1;
        }
        if count == 32 {
            Ok(Self(bytes))
        } else {
            Err(FingerprintError)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_usual_way_to_write_one_is_read() {
        let fingerprint = Fingerprint([
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0, 1, 2, 3, 4, 5, 6, 7,
        ]);
        assert_eq!(fingerprint.to_string(), "0123 4567 89ab cdef 0001 0203 0405 0607");
        for text in [
            "0123 4567 89ab cdef 0001 0203 0405 0607",
            "0123:4567:89AB:CDEF:0001:0203:0405:0607\n",
            "0123456789abcdef0001020304050607",
        ] {
            assert_eq!(text.parse(), Ok(fingerprint));
        }
        for text in [
            "",
            "0123",
            "0123456789abcdef000102030405060",
            "0123456789abcdef00010203040506070",
            "é",
        ] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError));
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes: [u8; 16]) {
            let fingerprint = Fingerprint(bytes);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            prop_assert_eq!(fingerprint.to_hex().parse(), Ok(fingerprint));
        }
    }
}
