//! The token: `base64url(header) "." base64url(claims) "." base64url(signature)`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::{
    claims::{ClaimError, Grant, GrantClaims, GrantRole, RoomScope, Validity},
    trust::{GrantKey, TrustedKeys},
};

/// A longer token is refused before anything in it is looked at.
pub const MAX_TOKEN_BYTES: usize = 4_096;
const MAX_HEADER_BYTES: usize = 256;
const ALGORITHM: &str = "EdDSA";
/// Explicit typing (RFC 8725 section 3.11): a token made for something else is no grant.
const TYPE: &str = "wzp-grant+jwt";
const RELAY: &str = "relay";

/// Why a token is not a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the grant is too long")]
    TooLong,
    /// Not three parts of canonical base64url holding the expected JSON.
    #[error("the grant is malformed")]
    Malformed,
    /// Another algorithm than EdDSA, `none` among them.
    #[error("the grant is not signed with EdDSA")]
    Algorithm,
    /// A token of another kind.
    #[error("the token is not a grant")]
    Type,
    /// Signed by nobody we trust.
    #[error("the grant is signed by a key that is not trusted here")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the grant is wrong")]
    Signature,
    /// Good from later on.
    #[error("the grant is not valid yet")]
    NotYetValid,
    /// Was good.
    #[error("the grant has expired")]
    Expired,
    /// Properly signed, but says what no grant may say.
    #[error("the grant says something impossible")]
    Claims(#[from] ClaimError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    room: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    relays: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender: Option<u16>,
    #[serde(default, skip_serializing_if = "is_zero")]
    epoch: u64,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
}

impl GrantKey {
    /// Signs a grant.
    ///
    /// # Errors
    /// Claims that [`verify`] would refuse.
    pub fn issue(&self, claims: GrantClaims) -> Result<String, ClaimError> {
        let claims = Claims::from(claims.parse()?);
        let header = Header {
            alg: ALGORITHM,
            typ: TYPE,
            kid: self.public().id().as_str(),
        };
        let mut token = format!("{}.{}", part(&header), part(&claims));
        let signature = self.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// Checks a token against the keys trusted here and the time.
///
/// `now` is in Unix seconds; `leeway` seconds of difference between the clocks are forgiven at both ends.
/// The caller still asks [`Grant::allows_room`], [`Grant::allows_relay`] and compares [`Grant::subject`].
///
/// # Errors
/// The first thing wrong. Nothing is read from the claims before the signature is found good.
pub fn verify(token: &str, trusted: &TrustedKeys, now: u64, leeway: u64) -> Result<Grant, GrantError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(GrantError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(GrantError::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(GrantError::Malformed)?;
    if header.len() > MAX_HEADER_BYTES {
        return Err(GrantError::Malformed);
    }
    let header = decode(header)?;
    // Borrowing makes a header with escapes in it malformed, which is what it is.
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| GrantError::Malformed)?;
    if header.alg != ALGORITHM {
        return Err(GrantError::Algorithm);
    }
    if header.typ != TYPE {
        return Err(GrantError::Type);
    }
    let key = trusted.find(header.kid).ok_or(GrantError::UnknownKey)?;
    let signature = decode(signature)?;
    let signature = signature
        .as_slice()
        .try_into()
        .map_err(|_| GrantError::Malformed)?;
    key.verify(signed.as_bytes(), signature)
        .map_err(|_| GrantError::Signature)?;

    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| GrantError::Malformed)?;
    let claims = GrantClaims::try_from(claims)?.parse()?;
    if now.saturating_add(leeway) < claims.validity.not_before {
        return Err(GrantError::NotYetValid);
    }
    if now >= claims.validity.expires.saturating_add(leeway) {
        return Err(GrantError::Expired);
    }
    Ok(Grant(claims))
}

impl From<GrantClaims> for Claims {
    fn from(claims: GrantClaims) -> Self {
        Self {
            sub: claims.subject.to_hex(),
            role: match claims.role {
                GrantRole::Member => None,
                GrantRole::Relay => Some(RELAY.to_owned()),
            },
            room: claims.room.to_string(),
            relays: claims.relays,
            sender: claims.sender,
            epoch: claims.epoch,
            iat: claims.validity.not_before,
            nbf: claims.validity.not_before,
            exp: claims.validity.expires,
            jti: claims.id,
        }
    }
}

impl TryFrom<Claims> for GrantClaims {
    type Error = GrantError;

    fn try_from(claims: Claims) -> Result<Self, GrantError> {
        Ok(Self {
            subject: claims.sub.parse().map_err(|_| GrantError::Malformed)?,
            role: match claims.role.as_deref() {
                None => GrantRole::Member,
                Some(RELAY) => GrantRole::Relay,
                Some(_) => return Err(ClaimError::Role.into()),
            },
            room: if claims.room == "*" {
                RoomScope::Any
            } else {
                RoomScope::Exactly(claims.room)
            },
            relays: claims.relays,
            sender: claims.sender,
            epoch: claims.epoch,
            validity: Validity {
                not_before: claims.nbf,
                expires: claims.exp,
            },
            id: claims.jti,
        })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn decode(part: &str) -> Result<Vec<u8>, GrantError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| GrantError::Malformed)
}

#[expect(
    clippy::expect_used,
    reason = "plain structs of strings and numbers always serialize"
)]
fn part<T: Serialize>(value: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("serializable"))
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
