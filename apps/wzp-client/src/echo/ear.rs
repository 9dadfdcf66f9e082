//! How long sound takes from mouth to ear: the loudness of what was said is looked for in what was heard.
//!
//! Loudness survives every codec and most concealment, and its rhythm never repeats, so the shift at which both agree
//! best is the delay, to 10 ms.

use std::{collections::VecDeque, sync::mpsc::Sender};

use wzp_sdk::audio::{Frame, Read, Sink, Source};

/// Blocks of 10 ms that are compared: 2 s hold some eight syllables.
const WINDOW: usize = 200;
/// Longest delay that is found, when a test lasts for as long and the window above: 4 s.
const LAG_MAX: usize = 400;
/// Agreement (Pearson) below which nothing is claimed.
const AGREEMENT: f32 = 0.7;
const BLOCK_MS: u32 = 10;

/// 10 ms at one end of the call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tick {
    Said(f32),
    Heard(f32),
}

/// Says what its source gives and tells how loud it was.
pub(super) struct Mouth<S> {
    source: S,
    ticks: Sender<Tick>,
}

impl<S: Source> Mouth<S> {
    pub(super) fn new(source: S, ticks: Sender<Tick>) -> Self {
        Self { source, ticks }
    }
}

impl<S: Source> Source for Mouth<S> {
    fn read(&mut self, frame: &mut Frame) -> Read {
        let read = self.source.read(frame);
        let loudness = if read == Read::Sound { loudness(frame) } else { 0.0 };
        // Nobody listens any more once the test is over.
        let _ = self.ticks.send(Tick::Said(loudness));
        read
    }
}

/// Tells how loud it is.
pub(super) struct Ear(Sender<Tick>);

impl Ear {
    pub(super) fn new(ticks: Sender<Tick>) -> Self {
        Self(ticks)
    }
}

impl Sink for Ear {
    fn write(&mut self, frame: &Frame) {
        let _ = self.0.send(Tick::Heard(loudness(frame)));
    }
}

fn loudness(frame: &Frame) -> f32 {
    let power = frame.iter().map(|sample| sample * sample).sum::<f32>() / frame.len() as f32;
    power.sqrt()
}

/// Both ends side by side; both are served by the same 10 ms clock, the ear first.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The newest `WINDOW + LAG_MAX` blocks of each.
    said: VecDeque<f32>,
    heard: VecDeque<f32>,
    said_count: usize,
    heard_count: usize,
    lags: Vec<u32>,
}

impl Extend<Tick> for Comparison {
    fn extend<T: IntoIterator<Item = Tick>>(&mut self, ticks: T) {
        for tick in ticks {
            match tick {
                Tick::Said(loudness) => self.said(loudness),
                Tick::Heard(loudness) => self.heard(loudness),
            }
        }
    }
}

impl Comparison {
    fn said(&mut self, loudness: f32) {
        push(&mut self.said, loudness);
        self.said_count += 1;
    }

    fn heard(&mut self, loudness: f32) {
        if self.said_count == 0 {
            // The ear listens before the room lets us speak, and that takes as long as the link is.
            self.heard.clear();
            self.heard_count = 0;
        } else if self.said_count < self.heard_count {
            // The room did not let us speak in between.
            self.said(0.0);
        }
        push(&mut self.heard, loudness);
        self.heard_count += 1;
    }

    /// The delay of the last two seconds, if it can be told.
    pub(super) fn lag_ms(&mut self) -> Option<u32> {
        let end = self.said_count.min(self.heard_count);
        let heard = window(&self.heard, self.heard_count, end)?;
        let scored = (0..=LAG_MAX).filter_map(|lag| {
            let said = window(&self.said, self.said_count, end.checked_sub(lag)?)?;
            Some((agreement(&said, &heard), lag))
        });
        let (best, lag) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
        if best < AGREEMENT {
            return None;
        }
        let ms = BLOCK_MS * u32::try_from(lag).ok()?;
        self.lags.push(ms);
        Some(ms)
    }

    /// The middle of everything that [`Comparison::lag_ms`] told.
    pub(super) fn median_ms(&mut self) -> Option<u32> {
        self.lags.sort_unstable();
        self.lags.get(self.lags.len() / 2).copied()
    }
}

fn push(blocks: &mut VecDeque<f32>, loudness: f32) {
    if blocks.len() == WINDOW + LAG_MAX {
        blocks.pop_front();
    }
    blocks.push_back(loudness);
}

/// The `WINDOW` blocks before block number `end`, of which `blocks` holds the newest up to `count`.
fn window(blocks: &VecDeque<f32>, count: usize, end: usize) -> Option<Vec<f32>> {
    let first = count - blocks.len();
    let start = end.checked_sub(WINDOW)?.checked_sub(first)?;
    Some(blocks.iter().skip(start).take(WINDOW).copied().collect())
}

/// Pearson's correlation; 0 where one side is constant.
fn agreement(a: &[f32], b: &[f32]) -> f32 {
    let mean = |x: &[f32]| x.iter().sum::<f32>() / x.len().max(1) as f32;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    // Far below what a codec makes of silence.
    if aa.min(bb) < 1e-9 {
        0.0
    } else {
        ab / (aa * bb).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::SpeechLike;
    use wzp_sdk::audio::FRAME;

    fn said(blocks: usize) -> Vec<f32> {
        let mut speech = SpeechLike::new(5);
        let mut frame = [0.0; FRAME];
        (0..blocks)
            .map(|_| {
                speech.fill(&mut frame);
                loudness(&frame)
            })
            .collect()
    }

    fn lag_of(delay: usize, distort: impl Fn(usize, f32) -> f32) -> Option<u32> {
        let said = said(600);
        let mut comparison = Comparison::default();
        for (n, loud) in said.iter().enumerate() {
            let back = n.checked_sub(delay).map_or(0.0, |n| distort(n, said[n]));
            comparison.extend([Tick::Said(*loud), Tick::Heard(back)]);
        }
        comparison.lag_ms()
    }

    #[test]
    fn delay_is_found_to_the_block() {
        for delay in [0, 7, 60, 199, 250, 399] {
            assert_eq!(lag_of(delay, |_, loud| loud), Some(10 * delay as u32));
        }
    }

    #[test]
    fn what_was_heard_before_we_could_speak_is_no_delay() {
        let mut comparison = Comparison::default();
        comparison.extend((0..216).map(|_| Tick::Heard(0.0)));
        let said = said(400);
        for (n, loud) in said.iter().enumerate() {
            let back = n.checked_sub(30).map_or(0.0, |n| said[n]);
            comparison.extend([Tick::Heard(back), Tick::Said(*loud)]);
        }
        assert_eq!(comparison.lag_ms(), Some(300));
        // Nor is what was heard while the room did not let us speak.
        comparison.extend((0..50).map(|_| Tick::Heard(0.0)));
        for loud in &said {
            comparison.extend([Tick::Heard(*loud), Tick::Said(*loud)]);
        }
        assert_eq!(comparison.lag_ms(), Some(0));
    }

    #[test]
    fn another_level_and_holes_do_not_hide_it() {
        assert_eq!(
            lag_of(13, |n, loud| if n % 9 == 0 { 0.0 } else { 0.3 * loud + 0.001 }),
            Some(130)
        );
    }

    #[test]
    fn nothing_is_claimed_of_silence_or_of_other_sound() {
        assert_eq!(lag_of(20, |_, _| 0.0), None);
        assert_eq!(lag_of(20, |n, _| (n * 7_919 % 100) as f32 / 100.0), None);
        let mut other = SpeechLike::new(6);
        let mut frame = [0.0; FRAME];
        let other: Vec<f32> = (0..600)
            .map(|_| {
                other.fill(&mut frame);
                loudness(&frame)
            })
            .collect();
        assert_eq!(lag_of(0, |n, _| other[n]), None);
    }
}
