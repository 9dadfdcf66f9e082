use super::*;

const FRAME: u32 = 960;
const MS: u64 = 1_000;

/// A buffer, its clock, and a queue that only counts its samples.
struct Bench {
    buffer: Buffer,
    now: Instant,
    queued: usize,
    order: u64,
    played: Vec<u32>,
    concealed: usize,
    comfort: usize,
}

impl Bench {
    fn new() -> Self {
        Self {
            buffer: Buffer::new(Config::default()),
            now: Instant::from_micros(20_000_000),
            queued: 0,
            order: 0,
            played: Vec::new(),
            concealed: 0,
            comfort: 0,
        }
    }

    /// Frame `n` of 20 ms arrives; its payload is its number.
    fn arrive(&mut self, n: u32) -> Outcome {
        self.order += 1;
        let input = Input::Arrived(Codec::Opus24k, &n.to_be_bytes());
        self.buffer
            .insert(self.now, n.wrapping_mul(FRAME), self.order, input)
    }

    fn pull(&mut self) {
        self.buffer.steer(self.now, self.queued);
        while self.queued < STEP {
            match self.buffer.step(self.now, self.queued) {
                Step::Decode(_, bytes) => {
                    self.played.push(u32::from_be_bytes(bytes.try_into().unwrap()));
                    self.queued += FRAME as usize;
                }
                Step::Conceal => {
                    self.concealed += STEP;
                    self.queued += STEP;
                }
                Step::Comfort(_) => {
                    self.comfort += STEP;
                    self.queued += STEP;
                }
            }
        }
        self.queued -= STEP;
        self.now += Duration::from_millis(10);
    }

    /// Frames `range` arrive on time, 20 ms apart.
    fn run(&mut self, range: std::ops::Range<u32>) {
        for n in range {
            self.arrive(n);
            self.pull();
            self.pull();
        }
    }

    fn pull_for(&mut self, ms: u64) {
        (0..ms / 10).for_each(|_| self.pull());
    }
}

#[test]
fn frames_come_out_in_order_whatever_order_they_came_in() {
    let mut bench = Bench::new();
    bench.run(0..50);
    for pair in 25..50 {
        // The second of each pair comes first, and the first 10 ms later.
        bench.arrive(2 * pair + 1);
        bench.pull();
        bench.arrive(2 * pair);
        bench.pull_for(30);
    }
    assert!(bench.played.windows(2).all(|w| w[0] < w[1]), "{:?}", bench.played);
    assert!(bench.played.len() >= 96);
}

#[test]
fn a_frame_comes_out_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.arrive(0), Outcome::Stored);
    assert_eq!(bench.arrive(0), Outcome::Duplicate);
    bench.pull_for(100);
    assert_eq!(bench.arrive(0), Outcome::Late);
    assert_eq!(bench.played, [0]);
    assert_eq!(bench.buffer.counts().late, 1);
}

#[test]
fn playing_waits_for_the_start_delay() {
    let mut bench = Bench::new();
    bench.run(0..1);
    assert!(bench.played.is_empty());
    bench.run(1..4);
    assert_eq!(bench.played, [0, 1]);
    assert_eq!(bench.buffer.target(), Config::default().start);
}

#[test]
fn a_spike_loses_nothing() {
    let mut bench = Bench::new();
    bench.run(0..200);
    bench.pull_for(200);
    // All that was held up comes at once.
    (200..210).for_each(|n| assert_eq!(bench.arrive(n), Outcome::Stored));
    bench.run(210..300);
    assert_eq!(bench.buffer.counts().late, 0);
    assert!(
        bench.played.iter().copied().eq(0..bench.played.len() as u32),
        "{:?}",
        bench.played
    );
    assert!(
        (150..=200).contains(&(bench.concealed / 48)),
        "{}",
        bench.concealed / 48
    );
    assert!(bench.buffer.current(bench.now, bench.queued).unwrap() > Duration::from_millis(150));
}

#[test]
fn a_lost_frame_costs_its_length_and_no_more() {
    let mut bench = Bench::new();
    bench.run(0..100);
    let before = bench.buffer.current(bench.now, bench.queued).unwrap();
    bench.pull_for(20);
    bench.run(101..150);
    assert_eq!(bench.concealed, FRAME as usize);
    assert_eq!(bench.buffer.current(bench.now, bench.queued), Some(before));
    assert!(!bench.played.contains(&100));
}

#[test]
fn nothing_for_long_is_silence_and_the_next_frame_starts_over() {
    let mut bench = Bench::new();
    bench.run(0..100);
    bench.pull_for(3_000);
    assert!(bench.buffer.is_starved());
    assert_eq!(bench.concealed as i64, STARVED);
    bench.run(250..300);
    assert!(bench.played.ends_with(&[295, 296, 297]) || bench.played.ends_with(&[296, 297, 298]));
    assert_eq!(bench.buffer.counts().late, 0);
}

#[test]
fn memory_is_bounded_when_nobody_pulls() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        bench.arrive(n);
        bench.now += Duration::from_millis(20);
    }
    assert_eq!(bench.buffer.len(), slots::SLOTS);
    bench.run(10_000..10_100);
    assert!(bench.buffer.current(bench.now, bench.queued).unwrap() < Duration::from_millis(150));
}

#[test]
fn frames_longer_than_any_codec_makes_are_refused() {
    let mut bench = Bench::new();
    let input = Input::Arrived(Codec::Opus24k, &[0; 257]);
    assert_eq!(bench.buffer.insert(bench.now, 0, 1, input), Outcome::TooLong);
}

#[test]
fn a_straggler_from_before_a_restart_does_not_undo_it() {
    let mut bench = Bench::new();
    bench.run(0..100);
    bench.run(4_000_000..4_000_010);
    let late = Input::Arrived(Codec::Opus24k, &[0; 4]);
    assert_eq!(
        bench.buffer.insert(bench.now, 99 * FRAME, 100, late),
        Outcome::Late
    );
    bench.run(4_000_010..4_000_060);
    assert_eq!(bench.buffer.counts().restarts, 1);
    assert!(bench.played.contains(&4_000_050));
}

#[test]
fn timestamps_wrap() {
    let mut bench = Bench::new();
    let wrap = (u32::MAX / FRAME) * FRAME;
    for i in 0..200_u32 {
        let timestamp = wrap.wrapping_sub(100 * FRAME).wrapping_add(i * FRAME);
        let input = Input::Arrived(Codec::Opus24k, &i.to_be_bytes());
        bench.buffer.insert(bench.now, timestamp, u64::from(i), input);
        bench.pull_for(20);
    }
    assert!(bench.played.len() > 195 && bench.concealed == 0);
    assert_eq!(bench.buffer.counts(), Counts::default());
}

#[test]
fn pulling_two_blocks_at_once_is_no_underrun() {
    let mut bench = Bench::new();
    for n in 0..3_000 {
        bench.arrive(n);
        bench.now += Duration::from_millis(10);
        // A device with a period of 20 ms asks twice, then not for a while.
        let at = bench.now;
        bench.pull();
        bench.now = at;
        bench.pull();
        bench.now = at + Duration::from_millis(10);
    }
    assert!(bench.concealed <= 2 * FRAME as usize, "{}", bench.concealed);
    assert_eq!(bench.buffer.counts().late, 0);
}

#[test]
fn steering_follows_the_target_both_ways() {
    let mut steering = Steering::default();
    let feed = |steering: &mut Steering, offset: i64| {
        (0..20)
            .map(|_| steering.push(offset, 50 * MS as i64))
            .find(|steer| *steer != Steer::Hold)
    };
    assert_eq!(feed(&mut steering, 55_000), None);
    steering.forget();
    assert_eq!(
        feed(&mut steering, 70_000),
        Some(Steer::Accelerate(Urgency::Low, 960))
    );
    steering.forget();
    assert_eq!(
        feed(&mut steering, 40_000),
        Some(Steer::Expand(Urgency::Quiet, 864))
    );
    steering.forget();
    assert!(matches!(
        feed(&mut steering, 300_000),
        Some(Steer::Accelerate(Urgency::Must, _))
    ));
}

#[test]
fn slowing_down_waits_two_seconds_for_a_pause_and_hurries_in_it() {
    let mut steering = Steering::default();
    let target = 100 * MS as i64;
    let urgencies: Vec<_> = (0..300)
        .filter_map(|_| match steering.push(50_000, target) {
            Steer::Expand(urgency, _) => Some(urgency),
            _ => None,
        })
        .collect();
    let in_pauses = urgencies
        .iter()
        .filter(|urgency| **urgency == Urgency::Quiet)
        .count();
    assert!((180..=200).contains(&in_pauses), "{in_pauses}");
    assert_eq!(urgencies.last(), Some(&Urgency::High));
    steering.shifted(10_000, false);
    assert_eq!(
        steering.push(60_000, target),
        Steer::Hold,
        "a seam is not followed by the next"
    );
    steering.shifted(10_000, true);
    assert!(matches!(steering.push(70_000, target), Steer::Expand(..)));
}

#[test]
fn one_repaired_block_tells_how_long_to_wait_for_any_frame_of_it() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.arrive(n);
        bench.now += Duration::from_millis(20);
    }
    // The last of five frames is lost. Repair comes 30 ms after it would have, which the first frame would have
    // waited 110 ms for.
    bench.now += Duration::from_millis(30);
    bench.buffer.repaired(bench.now, 0, 5, FRAME, 1);
    let target = bench.buffer.target();
    assert!((110..=120).contains(&target.as_millis()), "{target:?}");
}
