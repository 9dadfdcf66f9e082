//! One call: every recording after the other, through one link, in virtual time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use wzp_sdk::dsp::Denoiser;
use wzp_sdk::wav;
use wzp_sdk_core::voice::mode::Tier;
use wzp_sdk_core::voice::receiver::Stats;
use wzp_sdk_core::voice::sender::Pauses;
use wzp_testkit::{Jitter, Link, Loss, Profile};
use wzp_wire::Instant;

use crate::pipeline::{self, ENVELOPE, LONGEST, TICK};
use crate::speech::{BLOCK, Clip};

/// Blocks of silence after each recording: its echo in the jitter buffer ends before the next one begins.
const GAP: usize = 100;
/// Blocks said before anything is judged, while the jitter buffer learns the link.
const WARM_UP: usize = 2_000;

/// What is said over what.
pub(super) struct Call {
    pub(super) tier: Tier,
    pub(super) loss: f64,
    pub(super) burst_packets: f64,
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    pub(super) seed: u64,
    pub(super) denoise: bool,
    pub(super) pauses: Pauses,
    /// A new call for each recording, without anything said before.
    pub(super) fresh: bool,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Outcome {
    /// Each recording, and what was heard of it.
    pub(super) pairs: Vec<(PathBuf, PathBuf)>,
    pub(super) wire_bytes: u64,
    pub(super) spoken: Duration,
    /// One a call.
    pub(super) stats: Vec<Stats>,
}

impl Call {
    /// Plays `clips` and leaves what was heard of each in `folder`.
    ///
    /// # Errors
    /// When the codec library refuses, or a file cannot be written.
    pub(super) fn run(&self, clips: &[Clip], folder: &Path) -> anyhow::Result<Outcome> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        if !self.fresh {
            return self.place(clips, WARM_UP, self.seed, folder);
        }
        let mut all = Outcome::default();
        for (clip, seed) in clips.iter().zip(self.seed..) {
            let one = self.place(std::slice::from_ref(clip), 0, seed, folder)?;
            all.pairs.extend(one.pairs);
            all.wire_bytes += one.wire_bytes;
            all.spoken += one.spoken;
            all.stats.extend(one.stats);
        }
        Ok(all)
    }

    fn place(&self, clips: &[Clip], warm_up: usize, seed: u64, folder: &Path) -> anyhow::Result<Outcome> {
        let script = Script::new(clips, warm_up);
        let mut now = Instant::from_micros(1_000_000);
        let (mut speaker, mut listener) = pipeline::pair(self.tier, self.pauses, now)?;
        let mut denoiser = Denoiser::new();
        let mut link: Link = Link::new(self.profile(), seed);
        let (mut packet, mut wire_bytes) = ([0; LONGEST], 0);
        let mut heard = Vec::with_capacity(script.blocks.len());
        for block in &script.blocks {
            let mut cleaned = *block;
            let speech = denoiser.process(&mut cleaned);
            speaker.push(if self.denoise { &cleaned } else { block }, speech)?;
            while let Some(len) = speaker.poll(now, &mut packet)? {
                let sealed = packet.get(..len).context("reading a packet")?;
                wire_bytes += (len + ENVELOPE) as u64;
                link.send_sized(now, sealed.to_vec(), len + ENVELOPE);
            }
            while let Some((at, mut sealed)) = link.poll_timed(now) {
                listener.handle(at, &mut sealed);
            }
            let mut out = [0.0; BLOCK];
            listener.pull(now, &mut out);
            heard.push(out);
            now += TICK;
        }
        Ok(Outcome {
            pairs: script.save(clips, &heard, folder)?,
            wire_bytes,
            spoken: TICK * u32::try_from(script.blocks.len()).unwrap_or(u32::MAX),
            stats: vec![listener.stats()],
        })
    }

    fn profile(&self) -> Profile {
        let loss = match (self.loss, self.burst_packets) {
            (share, _) if share <= 0.0 => Loss::None,
            (share, mean_run) if mean_run > 1.0 => Loss::Burst { share, mean_run },
            (share, _) => Loss::Independent(share),
        };
        Profile {
            delay: self.delay,
            jitter: Jitter {
                deviation: self.jitter,
                memory: Duration::from_millis(60),
                ..Jitter::default()
            },
            loss,
            ..Profile::default()
        }
    }
}

/// All that is said in one call.
struct Script {
    blocks: Vec<[f32; BLOCK]>,
    /// Where each recording begins.
    starts: Vec<usize>,
}

impl Script {
    fn new(clips: &[Clip], warm_up: usize) -> Self {
        let mut blocks: Vec<_> = clips
            .iter()
            .cycle()
            .flat_map(|clip| &clip.blocks)
            .take(warm_up)
            .copied()
            .collect();
        let mut starts = Vec::new();
        for clip in clips {
            if !blocks.is_empty() {
                blocks.resize(blocks.len() + GAP, [0.0; BLOCK]);
            }
            starts.push(blocks.len());
            blocks.extend_from_slice(&clip.blocks);
        }
        blocks.resize(blocks.len() + GAP, [0.0; BLOCK]);
        Self { blocks, starts }
    }

    /// Cuts what was heard of each recording out of the whole, as late as it came.
    fn save(
        &self,
        clips: &[Clip],
        heard: &[[f32; BLOCK]],
        folder: &Path,
    ) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        let mut pairs = Vec::new();
        for (clip, &start) in clips.iter().zip(&self.starts) {
            let path = folder.join(format!("{}.wav", clip.name()));
            let what = || format!("writing {}", path.display());
            let mut writer = wav::Writer::create(&path).with_context(what)?;
            let length = clip.blocks.len() + GAP;
            for block in heard.iter().skip(start).take(length) {
                writer.write(block).with_context(what)?;
            }
            writer.finish().with_context(what)?;
            pairs.push((clip.path.clone(), path));
        }
        Ok(pairs)
    }
}
