//! Detached signatures over documents that a cluster publishes (RFC 7515, appendix F): `header ".." signature`, so that a
//! relay list fetched from any cache can be trusted like one from the control plane itself.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::trust::{GrantKey, TrustedKeys};

const ALGORITHM: &str = "EdDSA";
const MAX_HEADER_BYTES: usize = 256;
const SEPARATOR: &str = "..";

/// Why a document is not what it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DetachedError {
    /// Not `header..signature`, or another algorithm.
    #[error("the signature of the document is malformed")]
    Malformed,
    /// Signed as another kind of document.
    #[error("the document is signed as something else")]
    Type,
    /// Signed by nobody we trust.
    #[error("the document is signed by a key that is not trusted here")]
    UnknownKey,
    /// The document was changed, or is another one.
    #[error("the signature does not fit the document")]
    Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// Signs `document` as a document of kind `kind` (`"wzp-relays"`).
#[expect(clippy::expect_used, reason = "a plain struct of strings always serializes")]
pub fn sign_detached(key: &GrantKey, kind: &str, document: &[u8]) -> String {
    let header = Header {
        alg: ALGORITHM,
        typ: kind,
        kid: key.public().id().as_str(),
    };
    let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).expect("serializable"));
    let signature = key.sign(&signed(&header, document));
    format!("{header}{SEPARATOR}{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Checks that `signature` is one over `document` as a document of kind `kind`, by a trusted key.
///
/// # Errors
/// See [`DetachedError`].
pub fn verify_detached(
    signature: &str,
    kind: &str,
    document: &[u8],
    trusted: &TrustedKeys,
) -> Result<(), DetachedError> {
    let (header, signature) = signature
        .split_once(SEPARATOR)
        .filter(|(header, _)| header.len() <= MAX_HEADER_BYTES)
        .ok_or(DetachedError::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| DetachedError::Malformed);
    let json = decode(header)?;
    let said: Header<'_> = serde_json::from_slice(&json).map_err(|_| DetachedError::Malformed)?;
    if said.alg != ALGORITHM {
        return Err(DetachedError::Malformed);
    }
    if said.typ != kind {
        return Err(DetachedError::Type);
    }
    let key = trusted.find(said.kid).ok_or(DetachedError::UnknownKey)?;
    let signature = decode(signature)?;
    let signature = signature
        .as_slice()
        .try_into()
        .map_err(|_| DetachedError::Malformed)?;
    key.verify(&signed(header, document), signature)
        .map_err(|_| DetachedError::Signature)
}

fn signed(header: &str, document: &[u8]) -> Vec<u8> {
    format!("{header}.{}", URL_SAFE_NO_PAD.encode(document)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_document_kind_and_key() {
        let key = GrantKey::from_seed(&[1; 32]);
        let trusted = TrustedKeys::new(key.public().clone());
        let signature = sign_detached(&key, "wzp-relays", b"list");
        let verify = |text: &str, kind, document: &[u8]| verify_detached(text, kind, document, &trusted);
        assert_eq!(verify(&signature, "wzp-relays", b"list"), Ok(()));
        assert_eq!(
            verify(&signature, "wzp-relays", b"lust"),
            Err(DetachedError::Signature)
        );
        assert_eq!(verify(&signature, "wzp-keys", b"list"), Err(DetachedError::Type));
        let strange = sign_detached(&GrantKey::from_seed(&[2; 32]), "wzp-relays", b"list");
        assert_eq!(
            verify(&strange, "wzp-relays", b"list"),
            Err(DetachedError::UnknownKey)
        );
        for bad in ["", "..", "a..b", &signature[1..], &"x".repeat(5_000)] {
            assert!(verify(bad, "wzp-relays", b"list").is_err(), "{bad}");
        }
    }
}
