//! One who speaks in a room of up to 1,000 while others come and go: no relay is told more than it takes, and the key
//! gets to everybody.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use wzp_wire::{Instant, RoomName, SenderId};

use super::relay::{id, identity, seal};
use crate::e2ee::{
    Group,
    group::{BURST, RATE},
};

const TICK: Duration = Duration::from_millis(20);
/// Ticks between two packets.
const SPEAKS: u64 = 5;
const DELAY: Duration = Duration::from_millis(40);
const ME: u16 = 1;

struct Listener {
    group: Group,
    /// When it opened a packet for the last time.
    heard_at: Option<Instant>,
    /// The longest time between two packets that it opened, and from its joining to the first.
    longest_gap: Duration,
    first_after: Option<Duration>,
    joined_at: Instant,
    left_at: Option<Instant>,
}

enum Post {
    ToListener(SenderId, Vec<u8>),
    ToSpeaker(SenderId, Vec<u8>),
}

struct Hall {
    now: Instant,
    rng: ChaCha8Rng,
    room: RoomName,
    speaker: Group,
    listeners: BTreeMap<SenderId, Listener>,
    under_way: BTreeMap<(Instant, u64), Post>,
    order: u64,
    next_id: u16,
    /// Messages that our relay would still take, by its default limits and by ours.
    credit: [f64; 2],
    sent: u64,
    /// Nothing that the speaker says to anybody arrives.
    muffled: bool,
    timestamp: u32,
}

const LIMITS: [(f64, f64); 2] = [(200.0, 2_000.0), (RATE as f64, BURST as f64)];

impl Hall {
    fn new(seed: u64, others: u16) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let room = RoomName::parse("all hands").unwrap();
        let mut hall = Self {
            now: Instant::from_micros(1_000_000),
            speaker: Group::new(&identity(0), &room, &mut rng),
            rng,
            room,
            listeners: BTreeMap::new(),
            under_way: BTreeMap::new(),
            order: 0,
            next_id: ME + 1,
            credit: LIMITS.map(|(_, burst)| burst),
            sent: 0,
            muffled: false,
            timestamp: 0,
        };
        for _ in 0..others {
            hall.add_listener();
        }
        let list: Vec<(SenderId, Vec<u8>)> = hall
            .listeners
            .iter()
            .map(|(who, listener)| (*who, listener.group.announcement().to_vec()))
            .collect();
        let list: Vec<(SenderId, &[u8])> = list.iter().map(|(who, bytes)| (*who, &**bytes)).collect();
        hall.speaker.handle_joined(hall.now, id(ME), &list);
        hall
    }

    /// Listeners know nobody but the speaker: what they say to each other is not looked at here.
    fn add_listener(&mut self) -> SenderId {
        let me = id(self.next_id);
        self.next_id += 1;
        let mut group = Group::new(&identity(me.get() as u8), &self.room, &mut self.rng);
        group.handle_joined(self.now, me, &[(id(ME), self.speaker.announcement())]);
        let listener = Listener {
            group,
            heard_at: None,
            longest_gap: Duration::ZERO,
            first_after: None,
            joined_at: self.now,
            left_at: None,
        };
        self.listeners.insert(me, listener);
        me
    }

    fn join(&mut self) {
        let who = self.add_listener();
        let announcement = self.listeners[&who].group.announcement().to_vec();
        self.speaker.handle_member_joined(self.now, who, &announcement);
    }

    fn leave(&mut self, nth: usize) {
        let present: Vec<SenderId> = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.left_at.is_none())
            .map(|(who, _)| *who)
            .collect();
        let Some(who) = present.get(nth % present.len().max(1)) else {
            return;
        };
        self.listeners.get_mut(who).unwrap().left_at = Some(self.now);
        self.speaker.handle_member_left(self.now, *who);
    }

    fn run(&mut self, seconds: f64, speaks: bool) {
        for tick in 0..(seconds * 50.0) as u64 {
            self.now += TICK;
            for (credit, (rate, burst)) in self.credit.iter_mut().zip(LIMITS) {
                *credit = (*credit + rate * TICK.as_secs_f64()).min(burst);
            }
            self.carry();
            self.timers();
            if speaks && tick % SPEAKS == 0 {
                self.speak();
            }
            self.collect();
        }
    }

    fn carry(&mut self) {
        while let Some(first) = self
            .under_way
            .first_entry()
            .filter(|first| first.key().0 <= self.now)
        {
            match first.remove() {
                Post::ToSpeaker(from, bytes) => self.speaker.handle_message(self.now, from, &bytes),
                Post::ToListener(to, bytes) => {
                    let listener = self.listeners.get_mut(&to).unwrap();
                    if listener.left_at.is_none() {
                        listener.group.handle_message(self.now, id(ME), &bytes);
                    }
                }
            }
        }
    }

    fn timers(&mut self) {
        let (now, rng) = (self.now, &mut self.rng);
        let listeners = self.listeners.values_mut().map(|listener| &mut listener.group);
        for group in listeners.chain([&mut self.speaker]) {
            if group.poll_timeout().is_some_and(|at| at <= now) {
                group.handle_timeout(now, rng);
            }
        }
    }

    /// Everybody gets it, also who left: they listen on the wire.
    fn speak(&mut self) {
        let now = self.now;
        self.timestamp += 960;
        let packet = seal(&mut self.speaker, now, self.timestamp, b"words");
        for listener in self.listeners.values_mut() {
            if listener.group.open(now, id(ME), &mut packet.clone()).is_ok() {
                listener.heard(now);
            }
        }
    }

    fn collect(&mut self) {
        let at = self.now + DELAY;
        while let Some((to, bytes)) = self.speaker.poll_transmit() {
            self.sent += 1;
            for credit in &mut self.credit {
                *credit -= 1.0;
                // One tick is as exact as it gets here.
                assert!(*credit > -0.5, "more than the relay takes, at {:?}", self.now);
            }
            if !self.muffled {
                self.order += 1;
                self.under_way
                    .insert((at, self.order), Post::ToListener(to, bytes));
            }
        }
        while self.speaker.poll_event().is_some() {}
        let mut held = Vec::new();
        for (who, listener) in &mut self.listeners {
            while let Some((_, bytes)) = listener.group.poll_transmit() {
                self.order += 1;
                if listener.left_at.is_none() {
                    self.under_way
                        .insert((at, self.order), Post::ToSpeaker(*who, bytes));
                }
            }
            while listener.group.poll_event().is_some() {}
            while listener.group.poll_held(&mut held).is_some() {
                if listener.group.open(self.now, id(ME), &mut held).is_ok() {
                    listener.heard(self.now);
                }
            }
        }
    }

    fn present(&self) -> impl Iterator<Item = (&SenderId, &Listener)> {
        self.listeners
            .iter()
            .filter(|(_, listener)| listener.left_at.is_none())
    }

    fn assert_all_hear(&self) {
        let last = self.now - TICK * u32::try_from(SPEAKS).unwrap();
        for (who, listener) in self.present() {
            assert!(
                listener.heard_at >= Some(last),
                "{who} heard nothing since {:?} at {:?}",
                listener.heard_at,
                self.now
            );
        }
    }

    /// The longest that anybody could still open packets after leaving.
    fn longest_after_leaving(&self) -> Duration {
        self.listeners
            .values()
            .filter_map(|listener| Some(listener.heard_at?.duration_since(listener.left_at?)))
            .max()
            .unwrap_or_default()
    }
}

impl Listener {
    fn heard(&mut self, now: Instant) {
        match self.heard_at {
            Some(before) => self.longest_gap = self.longest_gap.max(now.duration_since(before)),
            None => self.first_after = Some(now.duration_since(self.joined_at)),
        }
        self.heard_at = Some(now);
    }
}

#[test]
fn a_thousand_members_of_whom_somebody_comes_and_goes_every_second() {
    let mut hall = Hall::new(1, 999);
    let from_the_start = Instant::from_micros(2_000_000);
    for second in 0..60 {
        hall.leave(17 * second);
        hall.run(0.5, true);
        hall.join();
        hall.run(0.5, true);
    }
    hall.run(20.0, true);
    hall.assert_all_hear();
    for (who, listener) in hall.present() {
        let (gap, first) = (listener.longest_gap, listener.first_after.unwrap());
        assert!(gap < Duration::from_secs(1), "{who} was deaf for {gap:?}");
        let patience = if listener.joined_at < from_the_start {
            1
        } else {
            18
        };
        assert!(
            first < Duration::from_secs(patience),
            "{who} heard nothing for {first:?}"
        );
    }
    let after = hall.longest_after_leaving();
    assert!(after < Duration::from_secs(17), "{after:?}");
    assert!(
        after > Duration::from_secs(5),
        "docs/crypto.md says more: {after:?}"
    );
    assert!(hall.sent > 5_000, "{}", hall.sent);
}

#[test]
fn a_thousand_members_who_ask_at_once_get_the_key_in_turn() {
    let mut hall = Hall::new(3, 999);
    hall.run(12.0, true);
    hall.muffled = true;
    hall.leave(5);
    hall.run(6.0, true);
    let deaf = hall
        .listeners
        .values()
        .filter(|listener| listener.heard_at < Some(hall.now - TICK * 100));
    assert!(deaf.count() > 900, "everybody lacks the new key");
    hall.muffled = false;
    hall.run(9.0, true);
    hall.assert_all_hear();
}

#[test]
fn small_rooms_change_keys_as_fast_as_ever() {
    let mut hall = Hall::new(2, 99);
    hall.run(5.0, true);
    for second in 0..10 {
        hall.leave(7 * second);
        hall.run(0.5, true);
        hall.join();
        hall.run(0.5, true);
    }
    hall.run(3.0, true);
    hall.assert_all_hear();
    let after = hall.longest_after_leaving();
    assert!(after <= Duration::from_millis(1_400), "{after:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn no_crowd_makes_one_say_more_than_a_relay_takes(
        seed: u64,
        others in 2_u16..500,
        turns in prop::collection::vec((0_usize..40, 0_usize..40, 0_usize..1_000, any::<bool>()), 1..12),
    ) {
        let mut hall = Hall::new(seed, others);
        for (joins, leaves, nth, speaks) in turns {
            (0..joins).for_each(|_| hall.join());
            (0..leaves).for_each(|leaver| hall.leave(nth + 3 * leaver));
            hall.run(0.7, speaks);
        }
        hall.run(15.0, true);
        hall.assert_all_hear();
    }
}
