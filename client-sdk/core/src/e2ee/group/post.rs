//! Messages that are due, most urgent first, and no more of them than a relay takes.
//!
//! What is due is kept as a note for each member and sealed when its turn comes: a key that changed meanwhile is sent as
//! it is then, and the queue is never longer than the room.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wzp_wire::{Instant, SenderId};

/// Messages a second in the long run. Relays take 200, and there is more to say than keys.
pub(in super::super) const RATE: u32 = 150;
/// Messages at once after a while without: everybody in the largest room. Relays take 2,000.
pub(in super::super) const BURST: u32 = 1_000;
/// Keys of new generations may take this many messages a second; the rest is for those who come, ask and answer.
const FOR_GENERATIONS: u32 = 100;
const EVERY: Duration = Duration::from_micros(1_000_000 / RATE as u64);

/// One thing to say to one member, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    /// Our key, to somebody who asked for it because it could not open our packets.
    KeyAskedFor,
    /// A question for a key: we cannot open its packets.
    Request,
    /// What proves that we are there; who waits for it in vain turns us away.
    Answer,
    Key,
    Greeting,
}

/// What waits, and how fast it goes.
#[derive(Debug, Default)]
pub(super) struct Post {
    /// By urgency, then by age.
    waiting: BTreeSet<(Note, u64, SenderId)>,
    /// The same by member.
    due: BTreeMap<SenderId, BTreeMap<Note, u64>>,
    written: u64,
    /// The messages sent so far are as many as [`RATE`] allows until then (GCRA).
    spent_until: Instant,
}

impl Post {
    /// Notes it down, once.
    pub(super) fn add(&mut self, to: SenderId, note: Note) {
        let due = self.due.entry(to).or_default();
        if due.contains_key(&note) || note == Note::Key && due.contains_key(&Note::KeyAskedFor) {
            return;
        }
        due.insert(note, self.written);
        self.waiting.insert((note, self.written, to));
        self.written += 1;
        if note == Note::KeyAskedFor {
            self.remove(to, Note::Key);
        }
    }

    /// Whether a key to this member waits.
    pub(super) fn has_key(&self, to: SenderId) -> bool {
        self.has(to, Note::Key) || self.has(to, Note::KeyAskedFor)
    }

    /// Whether anything to this member waits: it carries the acknowledgement too.
    pub(super) fn has_any(&self, to: SenderId) -> bool {
        self.due.contains_key(&to)
    }

    /// No key for this member.
    pub(super) fn withdraw_key(&mut self, to: SenderId) {
        self.remove(to, Note::Key);
        self.remove(to, Note::KeyAskedFor);
    }

    /// The member is gone.
    pub(super) fn forget(&mut self, to: SenderId) {
        for (note, written) in self.due.remove(&to).unwrap_or_default() {
            self.waiting.remove(&(note, written, to));
        }
    }

    /// What is to be said now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(SenderId, Note)> {
        if self.free_at() > now {
            return None;
        }
        let &(first, _, to) = self.waiting.first()?;
        // A key answers as well.
        let note = if first == Note::Answer && self.has(to, Note::Key) {
            self.remove(to, Note::Answer);
            Note::Key
        } else {
            first
        };
        self.remove(to, note);
        self.spent_until = self.spent_until.max(now) + EVERY;
        Some((to, note))
    }

    /// When the next one may go, if one waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.free_at())
    }

    /// How long it takes until all that waits and so many more are sent.
    pub(super) fn time_for(&self, now: Instant, more: usize) -> Duration {
        let messages = u32::try_from(self.waiting.len() + more).unwrap_or(u32::MAX);
        let done = self.spent_until.max(now) + EVERY.saturating_mul(messages);
        done.duration_since(now).saturating_sub(EVERY * BURST)
    }

    fn free_at(&self) -> Instant {
        self.spent_until + EVERY - EVERY * BURST
    }

    fn has(&self, to: SenderId, note: Note) -> bool {
        self.due.get(&to).is_some_and(|due| due.contains_key(&note))
    }

    fn remove(&mut self, to: SenderId, note: Note) {
        let Some(due) = self.due.get_mut(&to) else {
            return;
        };
        if let Some(written) = due.remove(&note) {
            self.waiting.remove(&(note, written, to));
        }
        if due.is_empty() {
            self.due.remove(&to);
        }
    }
}

/// Between two generations in a room of so many others, so that their keys fit.
pub(super) fn rotate_every(others: usize) -> Duration {
    let others = u32::try_from(others).unwrap_or(u32::MAX);
    Duration::from_secs(1).max(Duration::from_secs(1) * others / FOR_GENERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_micros(60_000_000);

    fn id(raw: u16) -> SenderId {
        SenderId::new(raw).unwrap()
    }

    fn at(secs: f64) -> Instant {
        T0 + Duration::from_secs_f64(secs)
    }

    /// Everything that may leave now.
    fn drain(post: &mut Post, now: Instant) -> Vec<(SenderId, Note)> {
        std::iter::from_fn(|| post.next(now)).collect()
    }

    /// One that has just said all it may.
    fn exhausted() -> Post {
        let mut post = Post::default();
        for member in 1..=1_000 {
            post.add(id(member), Note::Key);
        }
        assert_eq!(drain(&mut post, T0).len(), BURST as usize);
        post
    }

    #[test]
    fn most_urgent_goes_first_and_the_oldest_of_those() {
        let mut post = exhausted();
        for (member, note) in [
            (1, Note::Greeting),
            (2, Note::Key),
            (3, Note::Key),
            (4, Note::Answer),
            (5, Note::Request),
            (6, Note::Key),
        ] {
            post.add(id(member), note);
        }
        post.add(id(6), Note::KeyAskedFor);
        post.add(id(3), Note::Answer);
        assert_eq!(post.next(T0), None);
        let wanted = [
            (6, Note::KeyAskedFor),
            (5, Note::Request),
            (4, Note::Answer),
            (3, Note::Key),
            (2, Note::Key),
            (1, Note::Greeting),
        ];
        assert_eq!(
            drain(&mut post, at(1.0)),
            wanted.map(|(member, note)| (id(member), note))
        );
        assert!(
            !post.has_any(id(3)) && post.next_at().is_none(),
            "its key answered as well"
        );
    }

    #[test]
    fn queue_is_no_longer_than_what_can_be_said() {
        let mut post = exhausted();
        for _ in 0..100 {
            for note in [
                Note::Key,
                Note::KeyAskedFor,
                Note::Request,
                Note::Answer,
                Note::Greeting,
            ] {
                post.add(id(7), note);
            }
        }
        assert_eq!(post.waiting.len(), 4);
        post.withdraw_key(id(7));
        assert!(!post.has_key(id(7)) && post.has_any(id(7)));
        post.forget(id(7));
        assert!(post.waiting.is_empty() && post.due.is_empty());
    }

    #[test]
    fn no_span_of_time_holds_more_than_burst_and_rate() {
        let mut post = Post::default();
        let mut sent = Vec::new();
        for tick in 0..3_000_u64 {
            let now = at(tick as f64 / 100.0);
            // Full queue, then none, then full again.
            if !(1_000..2_000).contains(&tick) {
                for member in 0..3_u64 {
                    post.add(id((3 * tick + member) as u16 + 1), Note::Key);
                }
            }
            sent.extend(drain(&mut post, now).iter().map(|_| now));
        }
        for (first, from) in sent.iter().enumerate() {
            for (last, to) in sent.iter().enumerate().skip(first) {
                let allowed = f64::from(BURST) + f64::from(RATE) * to.duration_since(*from).as_secs_f64();
                assert!((last - first + 1) as f64 <= allowed + 0.01, "{from:?} {to:?}");
            }
        }
        assert!(sent.len() > 4_000, "{}", sent.len());
    }

    #[test]
    fn time_that_it_takes_is_known_beforehand() {
        let mut post = exhausted();
        let takes = post.time_for(T0, 300);
        for member in 1..=300 {
            post.add(id(member), Note::Key);
        }
        assert_eq!(post.time_for(T0, 0), takes);
        let nearly = T0 + takes - Duration::from_micros(1);
        assert_eq!(drain(&mut post, nearly).len(), 299);
        assert_eq!(drain(&mut post, T0 + takes).len(), 1);
        assert_eq!(Post::default().time_for(T0, 999), Duration::ZERO);
    }

    #[test]
    fn larger_rooms_change_keys_less_often() {
        assert_eq!(rotate_every(0), Duration::from_secs(1));
        assert_eq!(rotate_every(100), Duration::from_secs(1));
        assert_eq!(rotate_every(999), Duration::from_millis(9_990));
    }
}
