//! Who may issue grants: a cluster's signing keys, or the key that a shared secret stands for.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{BadSignature, InvalidPublicKey, PublicIdentity};

const SECRET_SALT: &[u8] = b"wzp-standalone-v1";
const SECRET_INFO: &[u8] = b"grant-key";
const SECRET_MIN_BYTES: usize = 16;
const SECRET_MAX_BYTES: usize = 1_024;

/// The name of a grant key: its RFC 7638 thumbprint, 43 letters of base64url.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyId(String);

/// The secret half of a grant key. Zeroized on drop, `Debug` shows the key id.
#[derive(Clone)]
pub struct GrantKey {
    signing: SigningKey,
    public: GrantPublicKey,
}

/// The public half.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantPublicKey {
    key: PublicIdentity,
    id: KeyId,
}

/// The keys a relay believes: one, or two while one takes over from the other.
#[derive(Debug, Clone)]
pub struct TrustedKeys {
    current: GrantPublicKey,
    other: Option<GrantPublicKey>,
}

/// A shared secret that would not protect anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Could be guessed from one captured grant.
    #[error(
        "the shared secret is too short ({found} of at least 16 bytes); `openssl rand -base64 24` makes a good one"
    )]
    TooShort {
        /// Its length in bytes.
        found: usize,
    },
    /// Probably a file given by mistake.
    #[error("the shared secret has {found} bytes, more than 1,024")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
}

/// The grant key that everybody who knows `secret` can derive: whoever knows it may issue grants, also to
/// themselves, and a standalone relay that was started with it believes them.
///
/// # Errors
/// Secrets below 16 or above 1,024 bytes. The bytes count as they are: nothing is trimmed.
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes")]
pub fn shared_secret_issuer(secret: &str) -> Result<GrantKey, SecretError> {
    let found = secret.len();
    if found < SECRET_MIN_BYTES {
        return Err(SecretError::TooShort { found });
    }
    if found > SECRET_MAX_BYTES {
        return Err(SecretError::TooLong { found });
    }
    let mut seed = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(SECRET_SALT), secret.as_bytes())
        .expand(SECRET_INFO, seed.as_mut())
        .expect("32 bytes");
    Ok(GrantKey::from_seed(&seed))
}

impl GrantKey {
    /// A key that existed nowhere before.
    pub fn generate<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(seed.as_mut());
        Self::from_seed(&seed)
    }

    /// The key with this Ed25519 seed.
    #[expect(clippy::expect_used, reason = "dalek made the key")]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let public = GrantPublicKey::from_bytes(signing.verifying_key().as_bytes()).expect("a valid key");
        Self { signing, public }
    }

    /// The half that relays need.
    pub fn public(&self) -> &GrantPublicKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantKey({})", self.public.id)
    }
}

impl GrantPublicKey {
    /// Takes 32 bytes from outside.
    ///
    /// # Errors
    /// See [`PublicIdentity::from_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidPublicKey> {
        let key = PublicIdentity::from_bytes(bytes)?;
        let x = URL_SAFE_NO_PAD.encode(bytes);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Ok(Self {
            key,
            id: KeyId(URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))),
        })
    }

    /// The 32 bytes that travel.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The `kid` of every grant that it signs.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), BadSignature> {
        self.key.verify(message, signature)
    }
}

impl fmt::Debug for GrantPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantPublicKey({})", self.id)
    }
}

impl KeyId {
    /// The 43 letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TrustedKeys {
    /// Believes one key.
    pub fn new(key: GrantPublicKey) -> Self {
        Self {
            current: key,
            other: None,
        }
    }

    /// Believes two keys: the one in use, and the one that comes next or went before.
    pub fn overlapping(current: GrantPublicKey, other: GrantPublicKey) -> Self {
        Self {
            current,
            other: Some(other),
        }
    }

    /// `next` becomes the key in use; the one it replaces is believed until the next rotation.
    pub fn rotate(&mut self, next: GrantPublicKey) {
        if next != self.current {
            self.other = Some(std::mem::replace(&mut self.current, next));
        }
    }

    /// Stops believing everything but the key in use.
    pub fn retire(&mut self) {
        self.other = None;
    }

    pub(super) fn find(&self, id: &str) -> Option<&GrantPublicKey> {
        [Some(&self.current), self.other.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.id.0 == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037 appendix A.3.
    #[test]
    fn key_ids_are_rfc_7638_thumbprints() {
        let x = URL_SAFE_NO_PAD
            .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            .unwrap();
        let key = GrantPublicKey::from_bytes(x.as_slice().try_into().unwrap()).unwrap();
        assert_eq!(key.id().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_secret_always_gives_the_same_key_and_a_short_one_none() {
        let key = shared_secret_issuer("correct horse battery staple").unwrap();
        assert_eq!(
            key.public(),
            shared_secret_issuer("correct horse battery staple")
                .unwrap()
                .public()
        );
        assert_ne!(
            key.public(),
            shared_secret_issuer("correct horse battery staplf")
                .unwrap()
                .public()
        );
        assert_eq!(
            shared_secret_issuer("hunter2").unwrap_err(),
            SecretError::TooShort { found: 7 }
        );
        assert_eq!(
            shared_secret_issuer(&"x".repeat(1_025)).unwrap_err(),
            SecretError::TooLong { found: 1_025 }
        );
        assert!(
            !shared_secret_issuer("hunter2")
                .unwrap_err()
                .to_string()
                .contains("hunter2")
        );
    }

    #[test]
    fn rotation_believes_two_keys_and_no_third() {
        let keys: Vec<_> = (1..=3)
            .map(|seed| GrantKey::from_seed(&[seed; 32]).public().clone())
            .collect();
        let mut trusted = TrustedKeys::new(keys[0].clone());
        trusted.rotate(keys[1].clone());
        assert!(trusted.find(keys[0].id().as_str()).is_some());
        trusted.rotate(keys[2].clone());
        assert!(trusted.find(keys[0].id().as_str()).is_none());
        assert!(trusted.find(keys[1].id().as_str()).is_some());
        trusted.retire();
        assert!(trusted.find(keys[1].id().as_str()).is_none());
    }
}
