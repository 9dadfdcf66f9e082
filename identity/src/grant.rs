//! Grants: signed tokens that let one identity into a room. A grant is a JWT (RFC 7519) with exactly
//! one algorithm, EdDSA over Ed25519 (RFC 8037), so there is no algorithm to be talked into.
//!
//! Header: `{"alg":"EdDSA","typ":"wzp-grant+jwt","kid":"…"}`, all three required and nothing else.
//! Claims: [`GrantClaims`]. The general JWT crates keep a process-wide crypto provider and read the
//! system clock, which a library without globals cannot have; what remains of JWT is small.

mod claims;
mod detached;
mod token;
mod trust;

pub use claims::{ClaimError, Grant, GrantClaims, GrantRole, RoomScope, Validity};
pub use detached::{DetachedError, sign_detached, verify_detached};
pub use token::{GrantError, MAX_TOKEN_BYTES, verify};
pub use trust::{GrantKey, GrantPublicKey, KeyId, SecretError, TrustedKeys, shared_secret_issuer};
