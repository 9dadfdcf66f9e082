//! Decoded samples waiting to be played, with a little of what was played before them.

/// A queue of samples in one preallocated block. The last [`Pcm::HISTORY`] samples popped stay readable.
#[derive(Debug)]
pub struct Pcm {
    data: Box<[f32]>,
    /// Index of the next sample to play; everything before it is history.
    head: usize,
    end: usize,
}

impl Default for Pcm {
    fn default() -> Self {
        Self::new()
    }
}

impl Pcm {
    /// Samples of history kept, at least.
    pub const HISTORY: usize = 1_440;
    /// Most samples that can wait: 120 ms.
    pub const QUEUE: usize = 5_760;

    /// An empty queue.
    pub fn new() -> Self {
        Self {
            data: vec![0.0; 2 * Self::HISTORY + Self::QUEUE].into_boxed_slice(),
            head: 0,
            end: 0,
        }
    }

    /// Appends as many of `samples` as there is room for, and returns how many that was.
    pub fn push(&mut self, samples: &[f32]) -> usize {
        let n = samples.len().min(self.room());
        self.make_room(n);
        self.data[self.end..self.end + n].copy_from_slice(&samples[..n]);
        self.end += n;
        n
    }

    /// Takes samples from the front; what is missing at the end of `out` becomes silence. Returns how many
    /// were there.
    pub fn pop(&mut self, out: &mut [f32]) -> usize {
        let n = out.len().min(self.queued());
        let (taken, rest) = out.split_at_mut(n);
        taken.copy_from_slice(&self.data[self.head..self.head + n]);
        rest.fill(0.0);
        self.head += n;
        n
    }

    /// Samples waiting.
    pub fn queued(&self) -> usize {
        self.end - self.head
    }

    /// Samples that can still be pushed.
    pub fn room(&self) -> usize {
        Self::QUEUE - self.queued()
    }

    /// Played samples that are still readable.
    pub(super) fn history(&self) -> usize {
        self.head
    }

    /// Forgets what waits and what was played.
    pub fn clear(&mut self) {
        self.head = 0;
        self.end = 0;
    }

    pub(super) fn queue(&self) -> &[f32] {
        &self.data[self.head..self.end]
    }

    pub(super) fn queue_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.head..self.end]
    }

    /// The last `history` samples played followed by the queue, and where the queue begins in it.
    pub(super) fn with_history(&self, history: usize) -> (&[f32], usize) {
        (&self.data[self.head - history..self.end], history)
    }

    /// Removes `len` samples of the queue from position `at` on.
    pub(super) fn cut(&mut self, at: usize, len: usize) {
        let from = self.head + at;
        self.data.copy_within(from + len..self.end, from);
        self.end -= len;
    }

    /// Puts the last `len` samples played in front of the queue again and returns the queue.
    pub(super) fn insert_past(&mut self, len: usize) -> &mut [f32] {
        self.make_room(len);
        self.data.copy_within(self.head..self.end, self.head + len);
        self.end += len;
        self.data.copy_within(self.head - len..self.head, self.head);
        &mut self.data[self.head..self.end]
    }

    /// Moves everything to the front when `n` more samples would not fit behind it.
    fn make_room(&mut self, n: usize) {
        if self.end + n > self.data.len() {
            let from = self.head.saturating_sub(Self::HISTORY);
            self.data.copy_within(from..self.end, 0);
            self.head -= from;
            self.end -= from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut pcm = Pcm::new();
        let (mut next_in, mut next_out) = (0.0, 0.0);
        for round in 0..500 {
            let block: Vec<f32> = (0..(round * 37) % 960).map(|i| next_in + i as f32).collect();
            next_in += pcm.push(&block) as f32;
            let mut out = [0.0; 480];
            let n = pcm.pop(&mut out);
            for sample in &out[..n] {
                assert_eq!(*sample, next_out);
                next_out += 1.0;
            }
            assert!(out[n..].iter().all(|s| *s == 0.0));
            assert!(pcm.history() >= Pcm::HISTORY.min(next_out as usize));
        }
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let mut pcm = Pcm::new();
        assert_eq!(pcm.push(&[0.5; 10_000]), Pcm::QUEUE);
        assert_eq!(pcm.push(&[0.5; 1]), 0);
        assert_eq!((pcm.queued(), pcm.room()), (Pcm::QUEUE, 0));
    }

    #[test]
    fn cut_and_insert_keep_the_rest() {
        let mut pcm = Pcm::new();
        let ramp: Vec<f32> = (0..2_000).map(|i| i as f32).collect();
        pcm.push(&ramp);
        pcm.pop(&mut [0.0; 1_000]);
        pcm.cut(10, 90);
        assert_eq!(pcm.queue()[9..12], [1_009.0, 1_100.0, 1_101.0]);
        let queue = pcm.insert_past(100);
        assert_eq!((queue[0], queue[99], queue[100]), (900.0, 999.0, 1_000.0));
        assert_eq!(pcm.queued(), 1_010);
    }
}
