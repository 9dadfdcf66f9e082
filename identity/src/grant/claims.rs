//! What a grant says.

use std::fmt;

use crate::Fingerprint;

pub(super) const MAX_ROOM_BYTES: usize = 64;
const MAX_RELAYS: usize = 16;
const MAX_NAME_BYTES: usize = 64;

/// Which rooms a grant opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomScope {
    /// Every room (`"*"` in the token, which is therefore no room name).
    Any,
    /// This one.
    Exactly(String),
}

/// As what a grant lets its subject in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GrantRole {
    /// To speak and to be heard; a token that names no role.
    #[default]
    Member,
    /// To bring the members of another relay (`"relay"` in the token).
    Relay,
}

/// From when until when a grant is good, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second (`nbf`; also written as `iat`).
    pub not_before: u64,
    /// First second in which it is good no longer (`exp`).
    pub expires: u64,
}

/// What an issuer writes into a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantClaims {
    /// Whom it lets in (`sub`, 32 hex digits).
    pub subject: Fingerprint,
    /// As what (`role`).
    pub role: GrantRole,
    /// Where (`room`).
    pub room: RoomScope,
    /// Names of the relays that may honour it (`relays`), at most 16; empty: every relay that trusts the key.
    pub relays: Vec<String>,
    /// The sender id the member shall have (`sender`), if the issuer decides it.
    pub sender: Option<u16>,
    /// The epoch of the room that the relays in [`Self::relays`] serve (`epoch`); 0: no control plane has placed it.
    pub epoch: u64,
    /// When.
    pub validity: Validity,
    /// A name for it in logs and revocation lists (`jti`), at most 64 printable ASCII letters; may be empty.
    pub id: String,
}

/// A grant that was verified: signature, key, time and form are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant(pub(super) GrantClaims);

/// Claims that no verifier would take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// `room` is empty, longer than 64 bytes, or has control characters.
    #[error("a room name has 1 to 64 bytes and no control characters")]
    Room,
    /// `role` is there, and none that we know: it might be one that may do less.
    #[error("there is no such role")]
    Role,
    /// More than 16 relays, or one whose name is not 1 to 64 printable ASCII letters.
    #[error("a grant names at most 16 relays, each by 1 to 64 printable letters")]
    Relays,
    /// Sender id 0.
    #[error("sender id 0 is nobody")]
    Sender,
    /// It would expire before it begins.
    #[error("the grant expires before it begins")]
    Validity,
    /// `jti` is longer than 64 bytes or not printable ASCII.
    #[error("a grant id has at most 64 printable letters")]
    Id,
}

impl Grant {
    /// Whom it lets in; the connection proof shows that this is who connected.
    pub fn subject(&self) -> Fingerprint {
        self.0.subject
    }

    /// As what it lets in.
    pub fn role(&self) -> GrantRole {
        self.0.role
    }

    /// Whether it opens this room.
    pub fn allows_room(&self, room: &str) -> bool {
        match &self.0.room {
            RoomScope::Any => true,
            RoomScope::Exactly(name) => name == room,
        }
    }

    /// Whether the relay of this name may honour it.
    pub fn allows_relay(&self, relay: &str) -> bool {
        self.0.relays.is_empty() || self.0.relays.iter().any(|name| name == relay)
    }

    /// The whole content.
    pub fn claims(&self) -> &GrantClaims {
        &self.0
    }
}

impl GrantClaims {
    /// The same form is demanded of the issuer and of the token.
    pub(super) fn parse(self) -> Result<Self, ClaimError> {
        if let RoomScope::Exactly(name) = &self.room
            && (name.is_empty()
                || name.len() > MAX_ROOM_BYTES
                || name == "*"
                || name.chars().any(char::is_control))
        {
            return Err(ClaimError::Room);
        }
        if self.relays.len() > MAX_RELAYS || self.relays.iter().any(|name| name.is_empty() || !is_name(name))
        {
            return Err(ClaimError::Relays);
        }
        if self.sender == Some(0) {
            return Err(ClaimError::Sender);
        }
        if self.validity.expires <= self.validity.not_before {
            return Err(ClaimError::Validity);
        }
        if !is_name(&self.id) {
            return Err(ClaimError::Id);
        }
        Ok(self)
    }
}

impl fmt::Display for RoomScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Exactly(name) => name,
        })
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}
