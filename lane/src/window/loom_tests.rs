//! Every interleaving of two threads on one word.

use loom::sync::Arc;
use loom::thread;

use super::*;

fn race(first: u64, second: u64) -> (Result<bool, Refusal>, Result<bool, Refusal>, u64) {
    let window = Arc::new(Window::new());
    let other = Arc::clone(&window);
    let thread = thread::spawn(move || other.look_up(first).and_then(|()| other.mark(first)));
    let here = window.look_up(second).and_then(|()| window.mark(second));
    let there = thread.join().unwrap();
    // Whatever the race did, afterwards neither packet gets in again.
    assert!(window.mark(first).is_err() && window.mark(second).is_err());
    (there, here, window.expected())
}

#[test]
fn loom_one_of_two_copies_gets_through() {
    loom::model(|| {
        let (a, b, expected) = race(7, 7);
        assert!(a.is_ok() != b.is_ok());
        assert_eq!(expected, 8);
    });
}

#[test]
fn loom_neighbours_do_not_lose_each_other() {
    loom::model(|| {
        let (a, b, expected) = race(7, 8);
        assert!(a.is_ok() && b == Ok(true));
        assert_eq!(expected, 9);
    });
}

#[test]
fn loom_a_takeover_of_the_word_never_lets_the_old_packet_in_later() {
    loom::model(|| {
        let (old, new, expected) = race(7, 7 + 2_048);
        assert_eq!(new, Ok(true));
        assert!(matches!(old, Ok(_) | Err(Refusal::TooOld)));
        assert_eq!(expected, 8 + 2_048);
    });
}
