//! The keys behind a phrase. This is the one place that knows the scheme shared with featherChat:
//! `HKDF-SHA256(salt = none, ikm = seed, info)` with one info string per key.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::{Fingerprint, Phrase};

const ED25519_INFO: &[u8] = b"warzone-ed25519";
const X25519_INFO: &[u8] = b"warzone-x25519";

/// Somebody's secret keys. Zeroized on drop; its `Debug` shows the fingerprint only.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    agreement: StaticSecret,
}

/// An Ed25519 public key that is a point of the curve and not one of the weak ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicIdentity(VerifyingKey);

/// 32 bytes that are no usable Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable Ed25519 public key")]
pub struct InvalidPublicKey;

/// A signature that was not made by this identity over this message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by this identity")]
pub struct BadSignature;

impl Identity {
    /// Derives both keys.
    pub fn from_phrase(phrase: &Phrase) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, phrase.seed());
        Self {
            signing: SigningKey::from_bytes(&derive(&hkdf, ED25519_INFO)),
            agreement: StaticSecret::from(*derive(&hkdf, X25519_INFO)),
        }
    }

    /// Signs `message` as it is: the caller puts a label in front that no other use has.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// What everybody may know.
    pub fn public(&self) -> PublicIdentity {
        PublicIdentity(self.signing.verifying_key())
    }

    /// The user's address.
    pub fn fingerprint(&self) -> Fingerprint {
        self.public().fingerprint()
    }

    /// The static X25519 key, for messengers that share the identity; calls use ephemeral keys only.
    pub fn x25519(&self) -> &StaticSecret {
        &self.agreement
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

impl PublicIdentity {
    /// Takes 32 bytes from outside.
    ///
    /// # Errors
    /// Not on the curve, or of small order (such a key "signs" anything).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidPublicKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidPublicKey)?;
        if key.is_weak() {
            return Err(InvalidPublicKey);
        }
        Ok(Self(key))
    }

    /// The 32 bytes that travel.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Checks a signature strictly (canonical, no small-order parts).
    ///
    /// # Errors
    /// It is not this identity's signature over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        self.0
            .verify_strict(message, &Signature::from_bytes(signature))
            .map_err(|_| BadSignature)
    }

    /// The user's address.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_key(self.0.as_bytes())
    }
}

impl fmt::Debug for PublicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicIdentity({})", self.fingerprint())
    }
}

impl TryFrom<&[u8]> for PublicIdentity {
    type Error = InvalidPublicKey;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        Self::from_bytes(bytes.try_into().map_err(|_| InvalidPublicKey)?)
    }
}

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
fn derive(hkdf: &Hkdf<Sha256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand(info, key.as_mut()).expect("32 bytes");
    key
}

#[cfg(test)]
mod tests {
    use x25519_dalek::PublicKey;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The vector a messenger that shares the scheme checks itself against (`docs/crypto.md`).
    #[test]
    fn the_shared_scheme_has_not_moved() {
        let mut seed = [0; 32];
        for (index, byte) in (0..).zip(seed.iter_mut()) {
            *byte = index;
        }
        let identity = Identity::from_phrase(&Phrase::from_seed(&seed));
        assert_eq!(hex(&identity.public().to_bytes()), ED25519);
        assert_eq!(hex(PublicKey::from(identity.x25519()).as_bytes()), X25519);
        assert_eq!(identity.fingerprint().to_string(), FINGERPRINT);
    }

    const ED25519: &str = "46705b2fa5f2e0d9917cd934f76c4442f8d8908c2dae9259922c0c52c106183d";
    const X25519: &str = "70ea094727e0b015acb996e4264e7483b178f6a8614f73d5b83aeecf89bd011f";
    const FINGERPRINT: &str = "6871 1211 0e91 ecb3 09f6 6f51 d257 ccaa";

    #[test]
    fn signatures_are_checked() {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[7; 32]));
        let other = Identity::from_phrase(&Phrase::from_seed(&[8; 32]));
        let signature = identity.sign(b"message");
        assert_eq!(identity.public().verify(b"message", &signature), Ok(()));
        assert_eq!(
            identity.public().verify(b"massage", &signature),
            Err(BadSignature)
        );
        assert_eq!(other.public().verify(b"message", &signature), Err(BadSignature));
    }

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(PublicIdentity::from_bytes(&neutral), Err(InvalidPublicKey));
        assert_eq!(PublicIdentity::from_bytes(&[0; 32]), Err(InvalidPublicKey));
        assert_eq!(
            PublicIdentity::try_from([1; 31].as_slice()),
            Err(InvalidPublicKey)
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_phrase(&Phrase::from_seed(&[7; 32]));
        assert_eq!(
            format!("{identity:?}"),
            format!("Identity({})", identity.fingerprint())
        );
    }
}
