//! What a whole client costs: it speaks all the time and hears one other, who also does.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use wzp_sdk::dsp::Denoiser;
use wzp_sdk_core::voice::mode::Tier;
use wzp_sdk_core::voice::sender::Pauses;
use wzp_testkit::{Link, Loss, Profile};
use wzp_wire::Instant;

use crate::cpu;
use crate::pipeline::{self, ENVELOPE, LONGEST, TICK};
use crate::speech::{self, BLOCK};

/// Repair and concealment have work to do.
const LINK: Profile = Profile {
    rate_bps: None,
    queue: Duration::ZERO,
    delay: Duration::from_millis(20),
    jitter: wzp_testkit::Jitter {
        deviation: Duration::from_millis(5),
        memory: Duration::from_millis(60),
        spike: Duration::ZERO,
        spike_every: Duration::ZERO,
    },
    loss: Loss::Independent(0.05),
    reorder: 0.0,
    reorder_by: Duration::ZERO,
    duplicate: 0.0,
};

/// One tier's result.
#[derive(Debug, Serialize)]
pub(super) struct FullDuplex {
    scenario: &'static str,
    tier: &'static str,
    audio_seconds: f64,
    cpu_seconds: f64,
    /// Share of one core.
    cpu_percent: f64,
}

impl fmt::Display for FullDuplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "full duplex with noise suppressor, {:<13} {:>5.2} % of a core ({:.1} s of CPU for {:.0} s of sound)",
            self.tier, self.cpu_percent, self.cpu_seconds, self.audio_seconds
        )
    }
}

/// Every tier, on the speech in `folder`.
///
/// # Errors
/// When there is no speech, or the codec library refuses.
pub(super) fn run(folder: &Path) -> anyhow::Result<Vec<FullDuplex>> {
    let blocks: Vec<_> = speech::clips(folder)?
        .into_iter()
        .flat_map(|clip| clip.blocks)
        .collect();
    Tier::ALL.into_iter().map(|tier| measure(tier, &blocks)).collect()
}

/// The speaking end of one client and the listening end of the other together do what one whole client does.
fn measure(tier: Tier, blocks: &[[f32; BLOCK]]) -> anyhow::Result<FullDuplex> {
    let mut now = Instant::from_micros(1_000_000);
    let (mut speaker, mut listener) = pipeline::pair(tier, Pauses::Send, now)?;
    let (mut denoiser, mut link) = (Denoiser::new(), Link::<Vec<u8>>::new(LINK, 1));
    let (mut packet, mut out) = ([0; LONGEST], [0.0; BLOCK]);
    let before = cpu::of_this_process()?;
    for block in blocks {
        let mut block = *block;
        let speech = denoiser.process(&mut block);
        speaker.push(&block, speech)?;
        while let Some(len) = speaker.poll(now, &mut packet)? {
            let sealed = packet.get(..len).context("reading a packet")?;
            link.send_sized(now, sealed.to_vec(), len + ENVELOPE);
        }
        while let Some((at, mut sealed)) = link.poll_timed(now) {
            listener.handle(at, &mut sealed);
        }
        listener.pull(now, &mut out);
        now += TICK;
    }
    let cpu_seconds = (cpu::of_this_process()? - before).as_secs_f64();
    let audio_seconds = blocks.len() as f64 * TICK.as_secs_f64();
    Ok(FullDuplex {
        scenario: "full duplex",
        tier: tier.name(),
        audio_seconds,
        cpu_seconds,
        cpu_percent: cpu_seconds * 100.0 / audio_seconds,
    })
}
