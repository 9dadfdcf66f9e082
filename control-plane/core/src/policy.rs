//! Who may do what.

/// Who may join a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomPolicy {
    /// Any identity that signs for itself; and whoever may by the others.
    #[default]
    Open,
    /// Whom a server with an API key vouches for.
    Key,
    /// Whom an external service vouches for, by a token; and a server with an API key.
    Token,
}

/// How somebody shows who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vouching {
    /// By the identity's own signature.
    Identity,
    /// By an API key.
    Key,
    /// By a token that was checked.
    Token,
}

impl RoomPolicy {
    /// Whether that is enough.
    pub fn admits(self, by: Vouching) -> bool {
        match self {
            Self::Open => true,
            Self::Key => by == Vouching::Key,
            Self::Token => by != Vouching::Identity,
        }
    }
}

/// What an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To have identities join rooms.
    Join,
    /// To look at everything.
    Read,
    /// To change things; includes the others.
    Admin,
}

/// What one API key may be used for: any of [`Scope`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);
