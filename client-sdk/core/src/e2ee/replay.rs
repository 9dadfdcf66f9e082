//! Which packets of a stream were opened already, and which 48-bit counter a 16-bit seq stands for.

use super::epoch::COUNTER_END;

/// How far back a packet may be.
pub(super) const WINDOW: u64 = 1_024;
/// One word more than the window has, because the newest word is not full.
const WORDS: u64 = WINDOW / 64 + 1;

/// Remembers the newest [`WINDOW`] counters of one stream.
#[derive(Clone)]
pub(super) struct Window {
    /// The newest counter opened, plus one.
    end: u64,
    /// Where the next packet is expected; at least `end`.
    expected: u64,
    bits: [u64; WORDS as usize],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    Duplicate,
    TooOld,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self {
            end: 0,
            expected: 0,
            bits: [0; WORDS as usize],
        }
    }

    /// The counter with these low 16 bits that is nearest to what is expected; `None` beyond 48 bits.
    pub(super) fn counter(&self, seq: u16) -> Option<u64> {
        let [low, high, ..] = self.expected.to_le_bytes();
        let ahead = seq.wrapping_sub(u16::from_le_bytes([low, high])).cast_signed();
        let counter = self
            .expected
            .checked_add_signed(ahead.into())
            .unwrap_or_else(|| u64::from(seq));
        (counter < COUNTER_END).then_some(counter)
    }

    pub(super) fn check(&self, counter: u64) -> Result<(), Stale> {
        if counter >= self.end {
            return Ok(());
        }
        if self.end - counter > WINDOW {
            return Err(Stale::TooOld);
        }
        let (word, bit) = place(counter);
        if self.bits[word] & bit == 0 {
            Ok(())
        } else {
            Err(Stale::Duplicate)
        }
    }

    /// The packet authenticated.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            // Words that begin between the old and the new end hold bits from a whole round ago.
            let first = self
                .end
                .div_ceil(64)
                .max((counter / 64).saturating_sub(WORDS - 1));
            for word in first..=counter / 64 {
                self.bits[place(word * 64).0] = 0;
            }
            self.end = counter + 1;
            self.expected = self.expected.max(self.end);
        }
        let (word, bit) = place(counter);
        self.bits[word] |= bit;
    }

    /// The sender says, authenticated, where its counter is.
    pub(super) fn expect(&mut self, counter: u64) {
        if counter < COUNTER_END {
            self.expected = self.expected.max(counter);
        }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let word = usize::try_from(counter / 64 % WORDS).unwrap_or(0);
    (word, 1 << (counter % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seq_is_extended_around_what_is_expected() {
        let mut window = Window::new();
        assert_eq!(window.counter(5), Some(5));
        assert_eq!(window.counter(65_535), Some(65_535));
        window.mark(65_534);
        assert_eq!(window.counter(2), Some(65_538));
        assert_eq!(window.counter(65_000), Some(65_000));
        window.expect(10_000_000);
        assert_eq!(window.counter(10_000_003u64 as u16), Some(10_000_003));
        window.expect(COUNTER_END - 1);
        assert_eq!(window.counter(1), None);
        window.expect(u64::MAX);
        assert_eq!(window.counter(u16::MAX), Some(COUNTER_END - 1));
    }

    proptest! {
        /// The window agrees with a set of everything ever opened.
        #[test]
        fn nothing_is_opened_twice(steps in prop::collection::vec((-1_200i64..1_300, any::<bool>()), 1..400)) {
            let mut window = Window::new();
            let mut opened = BTreeSet::new();
            let mut newest = 0u64;
            for (step, jump) in steps {
                let counter = newest.saturating_add_signed(if jump { step } else { step / 100 });
                let allowed = match opened.last() {
                    Some(last) if last + 1 > counter + WINDOW => Err(Stale::TooOld),
                    _ if opened.contains(&counter) => Err(Stale::Duplicate),
                    _ => Ok(()),
                };
                prop_assert_eq!(window.check(counter), allowed);
                if allowed.is_ok() {
                    window.mark(counter);
                    opened.insert(counter);
                    newest = newest.max(counter);
                }
            }
        }
    }
}
