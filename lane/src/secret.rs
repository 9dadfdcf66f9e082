//! The secret a lane starts from, and the TLS exporter's arguments that yield it.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Aead;

/// TLS exporter label of lane secrets.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-wzp-lane";

/// Who sends on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// Sent by the TLS client.
    FromClient = 0,
    /// Sent by the TLS server.
    FromServer = 1,
}

/// TLS exporter context of a lane's secret: direction ‖ lane number ‖ AEAD.
///
/// A lane number is used once per connection: a lane opened again under an old number would repeat nonces.
pub const fn exporter_context(direction: Direction, number: u16, aead: Aead) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [direction as u8, high, low, aead.code()]
}

/// 32 secret bytes: `secret_0` of a lane, or one that follows it. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    pub(crate) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl From<[u8; Self::LEN]> for Secret {
    fn from(mut bytes: [u8; Self::LEN]) -> Self {
        let secret = Self(bytes);
        bytes.zeroize();
        secret
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_separates_direction_number_and_aead() {
        assert_eq!(
            exporter_context(Direction::FromServer, 0x0203, Aead::Aes128Gcm),
            [1, 2, 3, 1]
        );
        assert_eq!(
            exporter_context(Direction::FromClient, 7, Aead::ChaCha20Poly1305),
            [0, 0, 7, 2]
        );
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::from([0x5a; 32])), "Secret(..)");
    }
}
