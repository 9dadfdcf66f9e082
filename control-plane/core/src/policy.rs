//! Who may do what.

use std::{fmt, str::FromStr};

/// Who may join a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomPolicy {
    /// Any identity that signs for itself; and whoever may by the others.
    #[default]
    Open,
    /// Whom a server with an API key vouches for.
    Key,
    /// Whom an external service vouches for, by a token; and whom a server with an API key does.
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

/// A word that is none of those asked for. Who wrote it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of: {0}")]
pub struct UnknownWord(&'static str);

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

impl fmt::Display for RoomPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Key => "key",
            Self::Token => "token",
        })
    }
}

impl FromStr for RoomPolicy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "open" => Ok(Self::Open),
            "key" => Ok(Self::Key),
            "token" => Ok(Self::Token),
            _ => Err(UnknownWord("open, key, token")),
        }
    }
}

/// What an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To have identities join rooms.
    Join = 1,
    /// To look at everything.
    Read = 2,
    /// To change things; includes the others.
    Admin = 4,
}

impl Scope {
    /// Each one.
    pub const ALL: [Self; 3] = [Self::Join, Self::Read, Self::Admin];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|scope| scope.to_string() == word);
        known.ok_or(UnknownWord("join, read, admin"))
    }
}

/// What one API key may be used for: any of [`Scope`]. Written with commas, such as `join,read`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether that may be done.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope as u8 | Scope::Admin as u8) != 0
    }

    /// Those that were given.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL
            .into_iter()
            .filter(move |scope| self.0 & *scope as u8 != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            write!(f, "{}{scope}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Scopes {
    type Err = UnknownWord;

    fn from_str(words: &str) -> Result<Self, UnknownWord> {
        words.split(',').map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_admits_what_it_says() {
        let admits = |policy: RoomPolicy| {
            [Vouching::Identity, Vouching::Key, Vouching::Token].map(|by| policy.admits(by))
        };
        assert_eq!(admits(RoomPolicy::Open), [true, true, true]);
        assert_eq!(admits(RoomPolicy::Key), [false, true, false]);
        assert_eq!(admits(RoomPolicy::Token), [false, true, true]);
        assert_eq!("key".parse(), Ok(RoomPolicy::Key));
        assert!("Key".parse::<RoomPolicy>().is_err());
    }

    #[test]
    fn admin_includes_the_others_and_none_allows_nothing() {
        let scopes: Scopes = "read,join".parse().unwrap();
        assert_eq!(scopes.to_string(), "join,read");
        assert!(scopes.allow(Scope::Join) && scopes.allow(Scope::Read) && !scopes.allow(Scope::Admin));
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        assert!(Scope::ALL.into_iter().all(|scope| admin.allow(scope)));
        assert!(
            Scope::ALL
                .into_iter()
                .all(|scope| !Scopes::default().allow(scope))
        );
        assert!("".parse::<Scopes>().is_err() && "join,".parse::<Scopes>().is_err());
    }
}
