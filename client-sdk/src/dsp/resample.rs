//! Any sample rate to any other, by `rubato`.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

/// A rate outside of what devices and files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot convert a sample rate of {from_hz} Hz to {to_hz} Hz (8 to 192 kHz are supported)")]
pub struct UnsupportedRate {
    /// Rate of the input.
    pub from_hz: u32,
    /// Rate of the output.
    pub to_hz: u32,
}

/// Converts a mono stream from one sample rate to another.
///
/// The converter's own delay is taken out: sample 0 of the output is sound of sample 0 of the input, and
/// [`Resampler::finish`] brings out the rest, so that a whole file keeps its length. It hands on sound in
/// blocks of 10 to 30 ms, longer only for rates that have next to no common divisor.
pub struct Resampler {
    from_hz: u32,
    to_hz: u32,
    /// Nothing to do when the rates are equal.
    converter: Option<Converter>,
}

struct Converter {
    fft: Fft<f32>,
    input: Vec<f32>,
    filled: usize,
    output: Vec<f32>,
    /// Output still to be dropped, so that the delay does not show.
    lead: usize,
    consumed: u64,
    produced: u64,
}

impl Resampler {
    const RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;

    /// Makes a converter.
    ///
    /// # Errors
    ///
    /// When either rate is outside of 8 to 192 kHz.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, UnsupportedRate> {
        let unsupported = UnsupportedRate { from_hz, to_hz };
        if !Self::RATES.contains(&from_hz) || !Self::RATES.contains(&to_hz) {
            return Err(unsupported);
        }
        let converter = if from_hz == to_hz {
            None
        } else {
            Some(Converter::new(from_hz, to_hz).ok_or(unsupported)?)
        };
        Ok(Self {
            from_hz,
            to_hz,
            converter,
        })
    }

    /// Takes any number of samples and hands what is ready to `sink`. Does not allocate.
    pub fn push(&mut self, input: &[f32], mut sink: impl FnMut(&[f32])) {
        match &mut self.converter {
            None => sink(input),
            Some(converter) => converter.push(input, &mut sink),
        }
    }

    /// Hands the rest to `sink`: everything pushed so far has then come out. The next push starts a new stream.
    pub fn finish(&mut self, mut sink: impl FnMut(&[f32])) {
        if let Some(converter) = &mut self.converter {
            converter.finish(u64::from(self.from_hz), u64::from(self.to_hz), &mut sink);
        }
    }
}

impl Converter {
    fn new(from_hz: u32, to_hz: u32) -> Option<Self> {
        // The filter is as long as a block, so low rates need longer ones to keep a steep edge.
        let lower = from_hz.min(to_hz);
        let blocks_per_second = if lower >= 32_000 { 100 } else { 50 };
        // The converter states its delay exactly only for a block of an even number of samples.
        let period = 2 * (from_hz / gcd(from_hz, to_hz));
        let chunk = (from_hz / blocks_per_second).next_multiple_of(period) as usize;
        let fft = Fft::new(from_hz as usize, to_hz as usize, chunk, 1, FixedSync::Both).ok()?;
        Some(Self {
            input: vec![0.0; fft.input_frames_max()],
            filled: 0,
            output: vec![0.0; fft.output_frames_max()],
            lead: fft.output_delay(),
            consumed: 0,
            produced: 0,
            fft,
        })
    }

    fn push(&mut self, mut input: &[f32], sink: &mut impl FnMut(&[f32])) {
        self.consumed += input.len() as u64;
        while !input.is_empty() {
            let room = self.input.len() - self.filled;
            let (now, later) = input.split_at(room.min(input.len()));
            self.input[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            input = later;
            if self.filled == self.input.len() {
                self.convert(u64::MAX, sink);
            }
        }
    }

    fn finish(&mut self, from_hz: u64, to_hz: u64, sink: &mut impl FnMut(&[f32])) {
        let total = (self.consumed * to_hz).div_ceil(from_hz);
        while self.produced < total {
            self.convert(total, sink);
        }
        self.fft.reset();
        self.lead = self.fft.output_delay();
        (self.filled, self.consumed, self.produced) = (0, 0, 0);
    }

    /// Converts one block, the missing part of it as silence; hands on no more than `limit` samples in all.
    fn convert(&mut self, limit: u64, sink: &mut impl FnMut(&[f32])) {
        let (frames_in, frames_out) = (self.input.len(), self.output.len());
        let partial = Indexing {
            partial_len: Some(self.filled),
            ..Indexing::default()
        };
        self.filled = 0;
        let written = match (
            InterleavedSlice::new(&self.input, 1, frames_in),
            InterleavedSlice::new_mut(&mut self.output, 1, frames_out),
        ) {
            (Ok(input), Ok(mut output)) => self
                .fft
                .process_into_buffer(&input, &mut output, Some(&partial))
                .map_or(0, |(_, out)| out),
            _ => 0,
        };
        debug_assert_eq!(written, frames_out, "the block has the converter's own size");
        let ready = self.output.get(self.lead.min(frames_out)..).unwrap_or_default();
        self.lead = self.lead.saturating_sub(frames_out);
        let wanted = usize::try_from(limit.saturating_sub(self.produced)).unwrap_or(usize::MAX);
        let ready = &ready[..ready.len().min(wanted)];
        self.produced += ready.len() as u64;
        if !ready.is_empty() {
            sink(ready);
        }
    }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler")
            .field("from_hz", &self.from_hz)
            .field("to_hz", &self.to_hz)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f32, rate: u32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| 0.5 * (std::f32::consts::TAU * hz * n as f32 / rate as f32).sin())
            .collect()
    }

    fn whole(resampler: &mut Resampler, input: &[f32], piece: usize) -> Vec<f32> {
        let mut output = Vec::new();
        for piece in input.chunks(piece) {
            resampler.push(piece, |ready| output.extend_from_slice(ready));
        }
        resampler.finish(|ready| output.extend_from_slice(ready));
        output
    }

    fn error_rms(output: &[f32], expected: &[f32]) -> f32 {
        // The edges of a stream ring: compare what lies inside.
        let inside = 2_000..output.len() - 2_000;
        let sum: f32 = inside
            .clone()
            .map(|n| (output[n] - expected[n]) * (output[n] - expected[n]))
            .sum();
        (sum / inside.len() as f32).sqrt()
    }

    #[test]
    fn every_common_rate_keeps_time_and_tone() {
        for rate in [
            8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000,
        ] {
            for (from, to) in [(rate, 48_000), (48_000, rate)] {
                let input = tone(1_000.0, from, from as usize);
                let output = whole(&mut Resampler::new(from, to).unwrap(), &input, 333);
                assert_eq!(output.len(), to as usize, "{from} -> {to}");
                let error = error_rms(&output, &tone(1_000.0, to, to as usize));
                assert!(error < 0.002, "{from} -> {to}: error {error}");
            }
        }
    }

    #[test]
    fn what_a_lower_rate_cannot_hold_does_not_alias() {
        let output = whole(
            &mut Resampler::new(48_000, 16_000).unwrap(),
            &tone(9_000.0, 48_000, 48_000),
            480,
        );
        assert!(error_rms(&output, &vec![0.0; 16_000]) < 0.001);
    }

    #[test]
    fn an_odd_rate_and_a_tiny_clip_work_too() {
        for samples in [0, 1, 7, 1_000] {
            let output = whole(
                &mut Resampler::new(44_101, 48_000).unwrap(),
                &vec![0.1; samples],
                100,
            );
            assert_eq!(output.len(), (samples * 48_000).div_ceil(44_101));
        }
    }

    #[test]
    fn after_finish_a_new_stream_starts_clean() {
        let mut resampler = Resampler::new(44_100, 48_000).unwrap();
        let first = whole(&mut resampler, &tone(440.0, 44_100, 4_410), 441);
        let second = whole(&mut resampler, &tone(440.0, 44_100, 4_410), 100);
        assert_eq!(first, second);
    }

    #[test]
    fn absurd_rates_are_refused() {
        for (from_hz, to_hz) in [
            (0, 48_000),
            (7_999, 48_000),
            (48_000, 192_001),
            (u32::MAX, 48_000),
        ] {
            assert_eq!(
                Resampler::new(from_hz, to_hz).unwrap_err(),
                UnsupportedRate { from_hz, to_hz }
            );
        }
    }
}
