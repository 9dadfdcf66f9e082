use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1_000)
}

fn nonce(n: u64) -> [u8; 8] {
    (n + 1).to_ne_bytes()
}

#[test]
fn the_first_ping_is_due_at_once_and_then_every_five_seconds_of_life() {
    let alive = Alive::new(at(0));
    assert!(alive.ping_due(at(0)));
    alive.handle_ping_sent(at(0), nonce(0), 0);
    for ms in (0..5_000).step_by(20) {
        alive.handle_opened(at(ms));
        assert!(!alive.ping_due(at(ms)));
    }
    assert!(alive.ping_due(at(5_000)));
}

#[test]
fn silence_brings_a_ping_a_second_and_after_five_seconds_stops_media() {
    let alive = Alive::new(at(0));
    alive.handle_ping_sent(at(0), nonce(0), 0);
    let mut pings = Vec::new();
    for ms in (0..8_000).step_by(10) {
        if alive.ping_due(at(ms)) {
            alive.handle_ping_sent(at(ms), nonce(ms), ms);
            pings.push(ms);
        }
        assert_eq!(alive.is_silent(at(ms)), ms >= 5_000);
    }
    assert_eq!(pings, [2_000, 3_000, 4_000, 5_000, 6_000, 7_000]);
    alive.handle_opened(at(8_000));
    assert!(!alive.is_silent(at(8_000)));
}

#[test]
fn an_idle_pair_that_answers_is_never_silent() {
    let alive = Alive::new(at(0));
    for ms in 0..60_000 {
        if alive.ping_due(at(ms)) {
            alive.handle_ping_sent(at(ms), nonce(ms), ms);
            alive.handle_opened(at(ms + 300));
        }
        assert!(!alive.is_silent(at(ms)));
    }
}

#[test]
fn a_pong_confirms_its_pings_counter_once() {
    let alive = Alive::new(at(0));
    alive.handle_ping_sent(at(0), nonce(1), 77);
    assert_eq!(alive.handle_pong(at(10), nonce(2), Duration::ZERO), None);
    let answer = alive
        .handle_pong(at(50), nonce(1), Duration::from_millis(10))
        .unwrap();
    assert_eq!(
        answer,
        Answer {
            counter: 77,
            rtt: Duration::from_millis(40)
        }
    );
    assert_eq!(
        alive.handle_pong(at(60), nonce(1), Duration::ZERO),
        None,
        "a PONG counts once"
    );
    assert_eq!(alive.answered_at(), Some(at(50)));
}

#[test]
fn a_hold_longer_than_the_round_trip_is_not_believed() {
    let alive = Alive::new(at(0));
    alive.handle_ping_sent(at(0), nonce(1), 0);
    let answer = alive
        .handle_pong(at(50), nonce(1), Duration::from_secs(9))
        .unwrap();
    assert_eq!(answer.rtt, Duration::from_millis(50));
}

#[test]
fn rtt_is_smoothed_and_its_minimum_kept() {
    let alive = Alive::new(at(0));
    assert_eq!(alive.rtt(), None);
    for (n, rtt_ms) in [80, 40, 120].into_iter().enumerate() {
        let n = n as u64;
        alive.handle_ping_sent(at(n * 1_000), nonce(n), n);
        alive.handle_pong(at(n * 1_000 + rtt_ms), nonce(n), Duration::ZERO);
    }
    let rtt = alive.rtt().unwrap();
    assert_eq!(
        (rtt.latest, rtt.min),
        (Duration::from_millis(120), Duration::from_millis(40))
    );
    assert_eq!(rtt.smoothed.as_micros(), 80_625);
}

#[test]
fn pings_count_as_lost_after_three_seconds() {
    let alive = Alive::new(at(0));
    for n in 0..40 {
        alive.handle_ping_sent(at(n * 100), nonce(n), n);
        if n % 2 == 0 {
            alive.handle_pong(at(n * 100 + 50), nonce(n), Duration::ZERO);
        }
    }
    assert_eq!(
        alive.counts(at(60_000)),
        Counts {
            sent: 40,
            answered: 20,
            lost: 20
        }
    );
    let waiting = alive.counts(at(3_900));
    assert_eq!(
        (waiting.answered, waiting.lost),
        (20, 12),
        "eight are remembered and still in time"
    );
}
