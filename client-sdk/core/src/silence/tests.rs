use proptest::prelude::*;
use wzp_testkit::Rng;

use super::*;

const TICK: Duration = Duration::from_millis(10);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(secs: f64) -> Instant {
    Instant::ZERO + Duration::from_secs_f64(secs)
}

/// A client, a relay and what lies between them, in virtual time.
struct World {
    watch: Watch,
    now: Instant,
    rtt: Duration,
    loss: f64,
    rng: Rng,
    /// What media takes; `None` in a room where nobody talks.
    media: Option<Carrier>,
    /// Carriers that get through, while the relay lives.
    open: Vec<Carrier>,
    relay_lives: bool,
    lane_pinged: Option<Instant>,
    lane_heard: Instant,
    answers: Vec<(Instant, Carrier)>,
    changes: Vec<(Instant, Change)>,
}

impl World {
    fn new(media: Option<Carrier>, open: &[Carrier]) -> Self {
        Self {
            watch: Watch::new(Instant::ZERO),
            now: Instant::ZERO,
            rtt: ms(60),
            loss: 0.0,
            rng: Rng::new(7),
            media,
            open: open.to_vec(),
            relay_lives: true,
            lane_pinged: None,
            lane_heard: Instant::ZERO,
            answers: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn run_until(&mut self, end: Instant) {
        while self.now < end {
            self.now += TICK;
            self.tick();
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let (came, waiting) = self.answers.iter().partition(|(due, _)| *due <= now);
        self.answers = waiting;
        let came: Vec<(Instant, Carrier)> = came;
        for (_, over) in came {
            self.watch.handle_heard(now);
            if over == Carrier::Lane {
                self.lane_heard = now;
            }
        }
        self.watch.handle_timeout(now);
        self.changes
            .extend(self.watch.poll_change().map(|change| (now, change)));
        for over in [Carrier::Lane, Carrier::QuicDatagram] {
            // A client that was told to use QUIC sends nothing over its lane.
            let lane = over == Carrier::Lane && self.media != Some(Carrier::QuicDatagram);
            if self.watch.ping_due(now, over, self.media) || lane && self.lane_ping_due() {
                self.ask(over);
            }
        }
    }

    /// The schedule of `wzp_lane::alive`.
    fn lane_ping_due(&self) -> bool {
        self.lane_pinged.is_none_or(|pinged| {
            let suspicious = (self.lane_heard + ms(2_000)).max(pinged + ms(1_000));
            self.now >= suspicious.min(pinged + ms(5_000))
        })
    }

    fn ask(&mut self, over: Carrier) {
        self.watch.handle_asked(self.now, over);
        if over == Carrier::Lane {
            self.lane_pinged = Some(self.now);
        }
        let lost = self.rng.chance(self.loss) || self.rng.chance(self.loss);
        if self.relay_lives && self.open.contains(&over) && !lost {
            self.answers.push((self.now + self.rtt, over));
        }
    }
}

const BOTH: [Carrier; 2] = [Carrier::Lane, Carrier::QuicDatagram];
const CASES: [Option<Carrier>; 3] = [None, Some(Carrier::Lane), Some(Carrier::QuicDatagram)];

#[test]
fn relay_that_is_killed_is_told_and_then_given_up_whatever_carries() {
    for media in CASES {
        let mut world = World::new(media, &BOTH);
        world.run_until(at(60.0));
        assert_eq!(world.changes, [], "{media:?}");
        world.relay_lives = false;
        world.answers.clear();
        world.run_until(at(75.0));
        let [(told, Change::Silent(silence)), (over, Change::GaveUp)] = world.changes[..] else {
            panic!("{media:?}: {:?}", world.changes);
        };
        let within = |what: Instant, from: f64, to: f64| {
            assert!(
                at(60.0 + from) <= what && what <= at(60.0 + to),
                "{media:?}: {what:?}"
            );
        };
        // Where nobody talks the last answer may be 2 s old, or the next question 2 s away.
        within(told, 0.9, 4.2);
        within(over, 7.9, 11.2);
        assert!(silence >= TELL && silence < TELL + ms(1_200), "{silence:?}");
    }
}

#[test]
fn lane_that_is_cut_is_not_a_silent_relay() {
    for media in CASES {
        let mut world = World::new(media, &BOTH);
        world.run_until(at(20.0));
        world.open = vec![Carrier::QuicDatagram];
        world.run_until(at(80.0));
        assert_eq!(world.changes, [], "{media:?}");
    }
}

#[test]
fn answers_that_take_long_are_answers() {
    for media in CASES {
        let mut world = World::new(media, &BOTH);
        world.rtt = ms(1_800);
        world.run_until(at(120.0));
        assert_eq!(world.changes, [], "{media:?}");
    }
}

#[test]
fn outage_that_ends_is_told_twice_and_ends_nothing() {
    let mut world = World::new(Some(Carrier::Lane), &BOTH);
    world.run_until(at(10.0));
    world.relay_lives = false;
    world.run_until(at(17.0));
    world.relay_lives = true;
    world.run_until(at(60.0));
    let [(_, Change::Silent(_)), (back, Change::Answers(after))] = world.changes[..] else {
        panic!("{:?}", world.changes);
    };
    assert!(back <= at(18.1), "{back:?}");
    assert!((ms(7_000)..ms(9_200)).contains(&after), "{after:?}");
}

#[test]
fn own_pause_is_nobodys_silence() {
    for media in CASES {
        for pause in [1.5, 5.0, 60.0, 86_400.0] {
            let mut world = World::new(media, &BOTH);
            world.run_until(at(20.5));
            // Whatever was under way is lost while the machine sleeps.
            world.answers.clear();
            world.now += Duration::from_secs_f64(pause);
            let woke = world.now;
            world.run_until(woke + ms(30_000));
            assert_eq!(world.changes, [], "{media:?} {pause} s");

            world.now += Duration::from_secs_f64(pause);
            world.relay_lives = false;
            world.answers.clear();
            let woke = world.now;
            world.run_until(woke + ms(14_000));
            let [(told, Change::Silent(_)), (over, Change::GaveUp)] = world.changes[..] else {
                panic!("{media:?} {pause} s: {:?}", world.changes);
            };
            assert!(told >= woke + TELL, "the relay gets its time: {told:?}");
            assert!(over >= woke + GIVE_UP && over <= woke + ms(11_500), "{over:?}");
        }
    }
}

#[test]
fn whoever_was_never_asked_owes_nothing() {
    let mut watch = Watch::new(Instant::ZERO);
    let mut now = Instant::ZERO;
    while now < at(100.0) {
        now += TICK;
        watch.handle_timeout(now);
        assert_eq!(watch.poll_change(), None);
    }
}

#[test]
fn relay_is_told_of_once_and_heard_again_after_it_was_given_up() {
    let mut world = World::new(Some(Carrier::Lane), &BOTH);
    world.relay_lives = false;
    world.run_until(at(40.0));
    assert_eq!(world.changes.len(), 2, "{:?}", world.changes);
    world.relay_lives = true;
    world.run_until(at(60.0));
    assert_eq!(world.changes.len(), 2, "there is no call left to tell");
    world.relay_lives = false;
    world.run_until(at(80.0));
    assert_eq!(world.changes.len(), 4, "{:?}", world.changes);
}

proptest! {
    /// Nothing is given up while one answer in ten gets through, and everything is, in time, once none does.
    #[test]
    fn bad_link_is_told_at_worst(loss in 0.0..0.25, seed: u64, which in 0_usize..3, rtt in 1_u64..1_000) {
        let mut world = World::new(CASES[which], &BOTH);
        world.rng = Rng::new(seed);
        (world.loss, world.rtt) = (loss, ms(rtt));
        world.run_until(at(60.0));
        let gave_up = world.changes.iter().any(|(_, change)| *change == Change::GaveUp);
        prop_assert!(!gave_up, "{:?}", world.changes);
        let heard = world.answers.iter().map(|(due, _)| *due).max().unwrap_or(world.now).max(world.now);
        world.relay_lives = false;
        world.run_until(heard + ms(11_200));
        prop_assert_eq!(world.changes.last().map(|(_, change)| *change), Some(Change::GaveUp));
    }
}
