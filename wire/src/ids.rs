//! Who sent a packet.

use std::{fmt, num::NonZeroU16};

/// The number by which a relay knows one member of one room.
///
/// It means nothing outside that room, so that it may be logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderId(NonZeroU16);

impl SenderId {
    /// The id `raw`; `None` for 0, which stands for nobody.
    pub const fn new(raw: u16) -> Option<Self> {
        match NonZeroU16::new(raw) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The id in a protobuf field, which has room for more than there are ids.
    pub fn from_field(raw: u32) -> Option<Self> {
        Self::new(u16::try_from(raw).ok()?)
    }

    /// The number on the wire, never 0.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_what_does_not_fit_is_nobody() {
        assert_eq!(SenderId::new(0), None);
        assert_eq!(SenderId::from_field(0), None);
        assert_eq!(SenderId::from_field(65_536), None);
        assert_eq!(SenderId::from_field(65_535).map(SenderId::get), Some(65_535));
    }

    #[test]
    fn is_shown_with_its_letter() {
        assert_eq!(SenderId::new(17).map(|id| id.to_string()).as_deref(), Some("s17"));
    }
}
