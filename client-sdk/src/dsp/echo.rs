//! Echo cancellation and automatic gain by the WebRTC algorithms in `sonora`.

use sonora::config::{self, AdaptiveDigital, GainController2, MaxProcessingRate, Pipeline};
use sonora::{AudioProcessing, Config, StreamConfig};

use super::{BLOCK, RATE_HZ, finite};

/// What an [`EchoCanceller`] does. By default: both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoOptions {
    /// Take out of the captured sound what the loudspeaker just played.
    pub cancel_echo: bool,
    /// Bring speech to an even loudness, with a limiter behind it.
    pub level_gain: bool,
}

impl Default for EchoOptions {
    fn default() -> Self {
        Self {
            cancel_echo: true,
            level_gain: true,
        }
    }
}

/// Cleans captured sound of the caller's own loudspeaker.
///
/// For each 10 ms: first [`EchoCanceller::render`] with what goes to the loudspeaker, then
/// [`EchoCanceller::capture`] with what came from the microphone.
pub struct EchoCanceller {
    processing: Option<AudioProcessing>,
}

impl EchoCanceller {
    /// A canceller that has yet to learn the room; with everything off it costs nothing.
    #[must_use]
    pub fn new(options: EchoOptions) -> Self {
        let EchoOptions {
            cancel_echo,
            level_gain,
        } = options;
        if !cancel_echo && !level_gain {
            return Self { processing: None };
        }
        let config = Config {
            pipeline: Pipeline {
                maximum_internal_processing_rate: MaxProcessingRate::Rate48kHz,
                multi_channel_render: false,
                multi_channel_capture: false,
                ..Pipeline::default()
            },
            echo_canceller: cancel_echo.then(config::EchoCanceller::default),
            gain_controller2: level_gain.then(|| GainController2 {
                adaptive_digital: Some(AdaptiveDigital::default()),
                ..GainController2::default()
            }),
            ..Config::default()
        };
        let stream = StreamConfig::new(RATE_HZ, 1);
        let processing = AudioProcessing::builder()
            .config(config)
            .capture_config(stream)
            .render_config(stream)
            .build();
        Self {
            processing: Some(processing),
        }
    }

    /// Hears what the loudspeaker is about to play.
    pub fn render(&mut self, block: &[f32; BLOCK]) {
        let Some(processing) = &mut self.processing else {
            return;
        };
        let input = block.map(finite);
        let mut played = [0.0; BLOCK];
        // The formats were fixed when it was built: only a wrong length could fail here.
        let _ = processing.process_render_f32(&[&input], &mut [&mut played]);
    }

    /// Cleans what the microphone heard, in place.
    pub fn capture(&mut self, block: &mut [f32; BLOCK]) {
        let Some(processing) = &mut self.processing else {
            return;
        };
        let input = block.map(finite);
        let mut output = [0.0; BLOCK];
        // A device's own delay is found by the canceller itself; the hint is not needed.
        if processing
            .process_capture_f32(&[&input], &mut [&mut output])
            .is_ok()
        {
            *block = output.map(finite);
        }
    }
}

impl Default for EchoCanceller {
    fn default() -> Self {
        Self::new(EchoOptions::default())
    }
}

impl std::fmt::Debug for EchoCanceller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EchoCanceller")
            .field("on", &self.processing.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that comes and goes like syllables do.
    fn far_end(round: usize, seed: &mut u32) -> [f32; BLOCK] {
        let loud = if round % 40 < 25 { 0.25 } else { 0.0 };
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (f32::from((*seed >> 16) as u16) / 65_536.0 - 0.5) * loud
        })
    }

    fn energy(block: &[f32]) -> f32 {
        block.iter().map(|s| s * s).sum()
    }

    /// Energy of the echo and of what is left of it, after 5 s in which to learn.
    fn echo_left(options: EchoOptions) -> (f32, f32) {
        let mut canceller = EchoCanceller::new(options);
        let (mut seed, mut before, mut after) = (1, 0.0, 0.0);
        let mut delayed = vec![[0.0; BLOCK]; 4];
        for round in 0..800 {
            let played = far_end(round, &mut seed);
            canceller.render(&played);
            delayed.rotate_right(1);
            let mut heard = delayed[0].map(|sample| sample * 0.4);
            delayed[0] = played;
            let loud = energy(&heard);
            canceller.capture(&mut heard);
            if round >= 500 {
                before += loud;
                after += energy(&heard);
            }
        }
        (before, after)
    }

    #[test]
    fn the_loudspeaker_is_taken_out() {
        let (before, after) = echo_left(EchoOptions {
            cancel_echo: true,
            level_gain: false,
        });
        assert!(after < before / 1_000.0, "echo of {before} leaves {after}");
    }

    #[test]
    fn switched_off_it_changes_nothing() {
        let mut canceller = EchoCanceller::new(EchoOptions {
            cancel_echo: false,
            level_gain: false,
        });
        let mut seed = 1;
        let block = far_end(0, &mut seed);
        let mut heard = block;
        canceller.render(&block);
        canceller.capture(&mut heard);
        assert_eq!(heard, block);
    }

    #[test]
    fn one_bad_sample_does_not_break_it() {
        let mut canceller = EchoCanceller::default();
        let mut seed = 1;
        for round in 0..100 {
            let mut block = far_end(round, &mut seed);
            if round == 10 {
                block[3] = f32::NAN;
            }
            canceller.render(&block);
            canceller.capture(&mut block);
            assert!(block.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        }
    }
}
