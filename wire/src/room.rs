//! Names of rooms.

use std::fmt;

/// The name of a room: 1 to 64 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(Box<str>);

/// A string that names no room. Who wrote it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomNameError {
    /// Nothing.
    #[error("room name is empty")]
    Empty,
    /// More than [`RoomName::MAX_BYTES`].
    #[error("room name is longer than 64 bytes")]
    TooLong,
    /// A character that would not show, or would break a log line.
    #[error("room name has a control character")]
    Control,
}

impl RoomName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes `name` as it is: no trimming, no folding of case.
    ///
    /// # Errors
    /// See [`RoomNameError`].
    pub fn parse(name: &str) -> Result<Self, RoomNameError> {
        if name.is_empty() {
            return Err(RoomNameError::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(RoomNameError::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(RoomNameError::Control);
        }
        Ok(Self(name.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for RoomName {
    type Err = RoomNameError;

    fn from_str(name: &str) -> Result<Self, RoomNameError> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_bytes_and_control_characters_are_refused() {
        assert_eq!(RoomName::parse(""), Err(RoomNameError::Empty));
        assert!(RoomName::parse(&"a".repeat(64)).is_ok());
        assert_eq!(RoomName::parse(&"a".repeat(65)), Err(RoomNameError::TooLong));
        assert_eq!(RoomName::parse(&"ä".repeat(33)), Err(RoomNameError::TooLong));
        for bad in ["a\nb", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(RoomName::parse(bad), Err(RoomNameError::Control));
        }
        assert_eq!(
            RoomName::parse("Küche 2").map(|name| name.to_string()),
            Ok("Küche 2".to_owned())
        );
    }
}
