//! Identities from BIP39 phrases, fingerprints, safety numbers and grants.
//!
//! Nothing here reads a file, a clock or a random number generator of its own: times are Unix
//! seconds and randomness is a [`rand_core::CryptoRng`], both arguments. `docs/crypto.md` is the
//! normative description.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod fingerprint;
mod grant;
mod keys;
mod phrase;
mod proof;
mod safety;

pub use fingerprint::{Fingerprint, FingerprintError};
pub use grant::{
    ClaimError, DetachedError, Grant, GrantClaims, GrantError, GrantKey, GrantPublicKey, GrantRole, KeyId,
    MAX_TOKEN_BYTES, RoomScope, SecretError, TrustedKeys, Validity, shared_secret_issuer, sign_detached,
    verify, verify_detached,
};
pub use keys::{BadSignature, Identity, InvalidPublicKey, PublicIdentity};
pub use phrase::{Phrase, PhraseError, WORDS};
pub use proof::{EXPORTER_LABEL, connection_proof_message, join_proof_message};
pub use safety::{SafetyNumber, safety_number};
