//! Names of relays and epochs of rooms.

use std::fmt;

/// The name of a relay in its cluster: 1 to 64 ASCII letters, digits, `-`, `_` or `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayId(Box<str>);

/// A string that names no relay. Who wrote it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a relay name has 1 to 64 letters, digits, '-', '_' or '.'")]
pub struct RelayIdError;

/// How often the relays of a room have changed: whoever has seen a higher one acts under no lower one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl RelayId {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes `name` as it is.
    ///
    /// # Errors
    /// See [`RelayIdError`].
    pub fn parse(name: &str) -> Result<Self, RelayIdError> {
        let fits = (1..=Self::MAX_BYTES).contains(&name.len());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if fits && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(RelayIdError)
        }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for RelayId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for RelayId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RelayId {
    type Err = RelayIdError;

    fn from_str(name: &str) -> Result<Self, RelayIdError> {
        Self::parse(name)
    }
}

impl Epoch {
    /// Before any lease.
    pub const NONE: Self = Self(0);

    /// That of the lease after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_host_names_are_taken_and_no_others() {
        for good in ["relay-0", "eu_west.1", "R"] {
            assert_eq!(RelayId::parse(good).map(|id| id.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(RelayId::parse(bad), Err(RelayIdError), "{bad}");
        }
    }
}
