//! What happens on the sound card's thread, without the sound card.

use cpal::{FromSample, Sample};
use rtrb::{Consumer, Producer};

use crate::dsp::{BLOCK, RATE_HZ, Resampler, UnsupportedRate};

/// From the device's frames to the ring.
pub(super) struct Feed {
    channels: usize,
    resampler: Resampler,
    mono: [f32; BLOCK],
    ring: Producer<f32>,
}

impl Feed {
    pub(super) fn new(channels: u16, rate_hz: u32, ring: Producer<f32>) -> Result<Self, UnsupportedRate> {
        let resampler = Resampler::new(rate_hz, RATE_HZ)?;
        Ok(Self {
            channels: usize::from(channels.max(1)),
            resampler,
            mono: [0.0; BLOCK],
            ring,
        })
    }

    /// Mixes interleaved samples down and passes them on; returns how many found no room.
    pub(super) fn feed<T: Sample>(&mut self, samples: &[T]) -> u64
    where
        f32: FromSample<T>,
    {
        let Self {
            channels,
            resampler,
            mono,
            ring,
        } = self;
        let mut missed = 0;
        for part in samples.chunks(BLOCK * *channels) {
            let mut frames = 0;
            for (frame, mono) in part.chunks_exact(*channels).zip(mono.iter_mut()) {
                let sum: f32 = frame.iter().map(|&sample| f32::from_sample(sample)).sum();
                *mono = sum / *channels as f32;
                frames += 1;
            }
            resampler.push(&mono[..frames], |ready| {
                missed += (ready.len() - put(ring, ready)) as u64
            });
        }
        missed
    }
}

/// From the ring to the device's frames.
pub(super) struct Drain {
    channels: usize,
    resampler: Resampler,
    ring: Consumer<f32>,
    /// Converted samples, of which `taken` are played.
    ready: Vec<f32>,
    taken: usize,
    /// Silence before the first sound is no fault.
    started: bool,
}

impl Drain {
    /// 2 ms: so much silence is put in at a time when the ring is dry, and so soon sound goes on.
    const GAP: usize = BLOCK / 5;

    pub(super) fn new(channels: u16, rate_hz: u32, ring: Consumer<f32>) -> Result<Self, UnsupportedRate> {
        Ok(Self {
            channels: usize::from(channels.max(1)),
            resampler: Resampler::new(RATE_HZ, rate_hz)?,
            ring,
            // A converter's block at the highest rate and the longest common period.
            ready: Vec::with_capacity(2 * rate_hz as usize),
            taken: 0,
            started: false,
        })
    }

    /// Fills interleaved samples, every channel the same; returns how many samples at 48 kHz were missing.
    pub(super) fn drain<T: FromSample<f32> + Copy>(&mut self, samples: &mut [T]) -> u64 {
        let mut missed = 0;
        for frame in samples.chunks_mut(self.channels) {
            while self.taken == self.ready.len() {
                missed += self.refill();
            }
            let sample = self.ready[self.taken];
            self.taken += 1;
            frame.fill(T::from_sample_(sample));
        }
        missed
    }

    fn refill(&mut self) -> u64 {
        self.ready.clear();
        self.taken = 0;
        let mut block = [0.0; Self::GAP];
        let found = self.ring.slots().min(Self::GAP);
        take(&mut self.ring, &mut block[..found]);
        self.started |= found > 0;
        let ready = &mut self.ready;
        self.resampler
            .push(&block, |converted| ready.extend_from_slice(converted));
        if self.started {
            (Self::GAP - found) as u64
        } else {
            0
        }
    }
}

/// Queues as much as there is room for.
pub(super) fn put(ring: &mut Producer<f32>, samples: &[f32]) -> usize {
    let count = samples.len().min(ring.slots());
    match ring.write_chunk_uninit(count) {
        Ok(chunk) => chunk.fill_from_iter(samples.iter().copied()),
        Err(_) => 0,
    }
}

/// Fills `block` when the ring holds that much, otherwise leaves both alone.
pub(super) fn take(ring: &mut Consumer<f32>, block: &mut [f32]) -> bool {
    let Ok(chunk) = ring.read_chunk(block.len()) else {
        return false;
    };
    let (first, second) = chunk.as_slices();
    let (front, back) = block.split_at_mut(first.len());
    front.copy_from_slice(first);
    back.copy_from_slice(second);
    chunk.commit_all();
    true
}

#[cfg(test)]
mod tests {
    use rtrb::RingBuffer;

    use super::*;

    fn tone(rate: u32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| 0.5 * (std::f32::consts::TAU * 500.0 * n as f32 / rate as f32).sin())
            .collect()
    }

    fn rms(samples: &[f32]) -> f32 {
        (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn a_stereo_16_bit_microphone_at_44_100_is_heard_as_mono_48_000() {
        let (producer, mut ring) = RingBuffer::new(48_000);
        let mut feed = Feed::new(2, 44_100, producer).unwrap();
        let device: Vec<i16> = tone(44_100, 22_050)
            .iter()
            .flat_map(|s| [(s * 32_767.0) as i16; 2])
            .collect();
        assert_eq!(device.chunks(2 * 441).map(|part| feed.feed(part)).sum::<u64>(), 0);
        let mut heard = vec![0.0; 22_000];
        assert!(take(&mut ring, &mut heard));
        let expected = tone(48_000, 22_000);
        let error: Vec<f32> = heard.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(rms(&error[2_000..]) < 0.002, "{}", rms(&error[2_000..]));
    }

    #[test]
    fn a_microphone_nobody_reads_counts_what_it_loses() {
        let (producer, _ring) = RingBuffer::new(1_000);
        let mut feed = Feed::new(1, 48_000, producer).unwrap();
        assert_eq!(feed.feed(&[0.1_f32; 1_500]), 500);
        assert_eq!(feed.feed(&[0.1_f32; 10]), 10);
    }

    #[test]
    fn a_loudspeaker_plays_what_is_queued_on_every_channel() {
        let (mut producer, ring) = RingBuffer::new(48_000);
        let mut drain = Drain::new(6, 96_000, ring).unwrap();
        assert_eq!(put(&mut producer, &tone(48_000, 24_000)), 24_000);
        let mut played = vec![0_u16; 6 * 40_000];
        assert_eq!(
            played
                .chunks_mut(6 * 512)
                .map(|part| drain.drain(part))
                .sum::<u64>(),
            0
        );
        let first: Vec<f32> = played.chunks(6).map(|frame| f32::from_sample(frame[0])).collect();
        assert!(played.chunks(6).all(|frame| frame.iter().all(|s| *s == frame[0])));
        let expected = tone(96_000, 40_000);
        let error: Vec<f32> = first.iter().zip(&expected).map(|(a, b)| a - b).collect();
        assert!(rms(&error[2_000..]) < 0.002, "{}", rms(&error[2_000..]));
    }

    #[test]
    fn a_loudspeaker_without_sound_plays_silence_and_counts_gaps_only_after_the_first_sound() {
        let (mut producer, ring) = RingBuffer::new(4_800);
        let mut drain = Drain::new(1, 48_000, ring).unwrap();
        let mut played = [1.0_f32; 960];
        assert_eq!(drain.drain(&mut played), 0);
        assert!(played.iter().all(|s| *s == 0.0));
        put(&mut producer, &[0.5; 480]);
        assert_eq!(drain.drain(&mut played), 480);
        assert!(played[..480].iter().all(|s| *s == 0.5) && played[480..].iter().all(|s| *s == 0.0));
    }

    #[test]
    fn a_block_is_read_whole_or_not_at_all() {
        let (mut producer, mut ring) = RingBuffer::new(1_000);
        let mut block = [0.0; BLOCK];
        put(&mut producer, &[0.5; BLOCK - 1]);
        assert!(!take(&mut ring, &mut block));
        put(&mut producer, &[0.5]);
        assert!(take(&mut ring, &mut block));
        assert_eq!(block, [0.5; BLOCK]);
    }
}
