//! Packets that overtook their key, or their sender's announcement. Kept for a second, within bounds.

use std::{collections::VecDeque, time::Duration};

use wzp_wire::{Instant, SenderId};

/// How long a packet waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
const SENDER_BYTES: usize = 16 * 1_024;
const TOTAL_BYTES: usize = 256 * 1_024;
/// What an entry costs besides its bytes; bounds the number of entries.
const ENTRY_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct Held {
    entries: VecDeque<Entry>,
    bytes: usize,
}

struct Entry {
    sender: SenderId,
    until: Instant,
    ready: bool,
    packet: Box<[u8]>,
}

impl Entry {
    fn cost(&self) -> usize {
        self.packet.len() + ENTRY_BYTES
    }
}

impl Held {
    /// Keeps a packet; says no when the sender or everybody together has too much here.
    pub(super) fn push(&mut self, now: Instant, sender: SenderId, packet: &[u8]) -> bool {
        let entry = Entry {
            sender,
            until: now + PATIENCE,
            ready: false,
            packet: packet.into(),
        };
        let of_sender: usize = self.of(sender).map(Entry::cost).sum();
        if of_sender + entry.cost() > SENDER_BYTES || self.bytes + entry.cost() > TOTAL_BYTES {
            return false;
        }
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        true
    }

    /// A key of this sender arrived: its packets are worth another try.
    pub(super) fn release(&mut self, sender: SenderId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.sender == sender) {
            entry.ready = true;
        }
    }

    /// The oldest packet that is worth another try, into `buf`.
    pub(super) fn pop(&mut self, buf: &mut Vec<u8>) -> Option<SenderId> {
        let at = self.entries.iter().position(|entry| entry.ready)?;
        let entry = self.entries.remove(at)?;
        self.bytes -= entry.cost();
        buf.clear();
        buf.extend_from_slice(&entry.packet);
        Some(entry.sender)
    }

    pub(super) fn holds(&self, sender: SenderId) -> bool {
        self.of(sender).next().is_some()
    }

    /// Drops a packet whose time is over and says whose it was.
    pub(super) fn expire(&mut self, now: Instant) -> Option<SenderId> {
        let entry = self.entries.pop_front_if(|entry| entry.until <= now)?;
        self.bytes -= entry.cost();
        Some(entry.sender)
    }

    pub(super) fn forget(&mut self, sender: SenderId) {
        self.entries.retain(|entry| entry.sender != sender);
        self.bytes = self.entries.iter().map(Entry::cost).sum();
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.until)
    }

    fn of(&self, sender: SenderId) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.sender == sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_by_sender_in_total_and_in_time() {
        let mut held = Held::default();
        let now = Instant::from_micros(1);
        for raw in 1..=100 {
            while held.push(now, SenderId::new(raw).unwrap(), &[0; 100]) {}
        }
        assert!(held.bytes <= TOTAL_BYTES);
        assert!(held.of(SenderId::new(1).unwrap()).count() <= SENDER_BYTES / 100);
        assert!(!held.holds(SenderId::new(100).unwrap()));
        assert_eq!(held.expire(now + PATIENCE - Duration::from_micros(1)), None);
        while held.expire(now + PATIENCE).is_some() {}
        assert_eq!((held.bytes, held.deadline()), (0, None));
    }

    #[test]
    fn only_released_packets_come_out_and_in_order() {
        let mut held = Held::default();
        let [a, b] = [1, 2].map(|raw| SenderId::new(raw).unwrap());
        for (sender, byte) in [(a, 1), (b, 2), (a, 3)] {
            assert!(held.push(Instant::ZERO, sender, &[byte]));
        }
        let mut buf = Vec::new();
        assert_eq!(held.pop(&mut buf), None);
        held.release(a);
        assert_eq!((held.pop(&mut buf), buf.as_slice()), (Some(a), [1].as_slice()));
        assert_eq!((held.pop(&mut buf), buf.as_slice()), (Some(a), [3].as_slice()));
        assert_eq!(held.pop(&mut buf), None);
        held.forget(b);
        assert_eq!(held.bytes, 0);
    }
}
