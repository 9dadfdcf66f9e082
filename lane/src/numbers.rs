//! Lane numbers: each is used once per connection and direction.

/// The numbers one direction of a connection has used.
///
/// A lane opened again under an old number would start again at counter 0 with the same key, so both ends refuse a
/// number that is not higher than the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneNumbers {
    /// The lowest number that is still free.
    free: u32,
}

impl LaneNumbers {
    /// Takes the next number for a lane of our own; `None` when the connection has no more.
    pub fn take(&mut self) -> Option<u16> {
        let number = u16::try_from(self.free).ok()?;
        self.free += 1;
        Some(number)
    }

    /// Whether the peer may use this number: it is higher than all before it, and is used up from now on.
    #[must_use]
    pub fn accept(&mut self, number: u16) -> bool {
        if u32::from(number) < self.free {
            return false;
        }
        self.free = u32::from(number) + 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_used_twice() {
        let mut numbers = LaneNumbers::default();
        assert_eq!((numbers.take(), numbers.take()), (Some(0), Some(1)));
        assert!(!numbers.accept(0) && !numbers.accept(1));
        assert!(numbers.accept(7));
        assert!(!numbers.accept(7) && !numbers.accept(2));
        assert_eq!(numbers.take(), Some(8));
        assert!(numbers.accept(u16::MAX));
        assert_eq!(numbers.take(), None);
    }
}
