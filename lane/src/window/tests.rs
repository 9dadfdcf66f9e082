use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What the window promises, written down without bits.
#[derive(Default)]
struct Model {
    marked: BTreeSet<u64>,
    next: u64,
}

impl Model {
    fn mark(&mut self, counter: u64) -> Result<bool, Refusal> {
        if counter + SPAN < self.next {
            return Err(Refusal::TooOld);
        }
        if !self.marked.insert(counter) {
            return Err(Refusal::Replay);
        }
        let newest = counter >= self.next;
        self.next = self.next.max(counter + 1);
        Ok(newest)
    }
}

fn receive(window: &Window, counter: u64) -> Result<bool, Refusal> {
    window.look_up(counter)?;
    window.mark(counter)
}

#[test]
fn the_first_packet_is_the_newest_and_its_copy_a_replay() {
    let window = Window::new();
    assert_eq!(receive(&window, 0), Ok(true));
    assert_eq!(receive(&window, 0), Err(Refusal::Replay));
    assert_eq!(window.expected(), 1);
}

#[test]
fn exactly_1024_packets_are_remembered() {
    let window = Window::new();
    assert_eq!(receive(&window, 5_000), Ok(true));
    assert_eq!(receive(&window, 5_001 - 1_024), Ok(false));
    assert_eq!(receive(&window, 5_000 - 1_024), Err(Refusal::TooOld));
}

#[test]
fn a_packet_that_became_old_while_it_was_opened_is_refused() {
    let window = Window::new();
    assert_eq!(window.look_up(10), Ok(()));
    assert_eq!(window.mark(10 + 2_048), Ok(true));
    assert_eq!(window.mark(10), Err(Refusal::TooOld));
}

#[test]
fn of_several_threads_with_the_same_packets_one_wins_each() {
    let window = Window::new();
    let won: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..900).filter(|c| window.mark(*c).is_ok()).collect()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut all: Vec<u64> = won.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (0..900).collect::<Vec<_>>());
}

#[test]
fn counters_past_the_end_of_a_lane_are_refused() {
    let window = Window::new();
    assert_eq!(receive(&window, counter::LIMIT), Err(Refusal::TooOld));
    assert_eq!(receive(&window, counter::LIMIT - 1), Ok(true));
}

proptest! {
    #[test]
    fn agrees_with_the_model(
        start in 0..counter::LIMIT / 2,
        steps in prop::collection::vec(prop_oneof![0_u64..40, 900_u64..2_200, 0_u64..100_000], 1..400),
    ) {
        let (window, mut model) = (Window::new(), Model::default());
        let mut base = start;
        for (i, step) in steps.into_iter().enumerate() {
            let counter = if i % 3 == 0 { base + step } else { base.saturating_sub(step) };
            prop_assert_eq!(receive(&window, counter), model.mark(counter));
            base = base.max(counter);
        }
    }
}
