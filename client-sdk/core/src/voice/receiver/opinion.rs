//! An estimate of what the listener would say: mean opinion score by the E-model.
//!
//! ITU-T G.107 with its default values gives `R = 93.2 - Id - Ie,eff`:
//! - delay, in its usual simplified form (Cole and Rosenbluth): `Id = 0.024·d + 0.11·(d - 177.3)` where the
//!   second term counts only above 177.3 ms one way;
//! - equipment: `Ie,eff = Ie + (95 - Ie)·P / (P / BurstR + Bpl)` with `P` the percentage of sound that had to
//!   be concealed, after repair.
//!
//! `MOS = 1 + 0.035·R + R·(R - 60)·(100 - R)·7e-6`, between 1 and 4.5. It is an estimate on the narrow-band
//! scale, meant to compare and to alarm, not a listening test. `Ie` and `Bpl` of these codecs are not in
//! G.113: they are estimates of ours that put the tiers in the order in which they sound, fitted to no measurement.
//! PESQ-WB, for one, is stricter with narrow band: 4.4 and 2.1 for the two Opus modes without loss
//! (docs/adr/0003), where this says 4.3 and 3.3.

use std::time::Duration;

use wzp_wire::Codec;

/// What stands between the sender's mouth and the listener's ear.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Impairment {
    /// The codec.
    pub codec: Codec,
    /// Mouth to ear.
    pub delay: Duration,
    /// Share of the sound that was concealed, 0.0 to 1.0.
    pub concealed: f64,
    /// Mean length of a run of losses against that of chance; 1.0 is random loss.
    pub burst: f64,
}

/// Mean opinion score, 1.0 to 4.5.
pub fn mos(impairment: &Impairment) -> f64 {
    let (ie, robustness) = match impairment.codec {
        Codec::Opus24k => (4.0, 20.0),
        Codec::Opus6k => (28.0, 16.0),
        Codec::Codec2_1200 => (45.0, 14.0),
    };
    let delay = impairment.delay.as_secs_f64() * 1e3;
    let slow = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    let percent = 100.0 * impairment.concealed.clamp(0.0, 1.0);
    let equipment = ie + (95.0 - ie) * percent / (percent / impairment.burst.max(1.0) + robustness);
    let r = (93.2 - slow - equipment).clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(codec: Codec, delay_ms: u64, concealed: f64) -> f64 {
        mos(&Impairment {
            codec,
            delay: Duration::from_millis(delay_ms),
            concealed,
            burst: 1.0,
        })
    }

    #[test]
    fn better_is_more() {
        assert!(score(Codec::Opus24k, 50, 0.0) > 4.2);
        assert!(score(Codec::Opus24k, 50, 0.0) > score(Codec::Opus6k, 50, 0.0));
        assert!(score(Codec::Opus6k, 50, 0.0) > score(Codec::Codec2_1200, 50, 0.0));
        assert!(score(Codec::Opus24k, 50, 0.02) < score(Codec::Opus24k, 50, 0.0));
        assert!(score(Codec::Opus24k, 400, 0.0) < score(Codec::Opus24k, 150, 0.0) - 0.4);
    }

    #[test]
    fn stays_on_the_scale() {
        for delay in [0, 100, 10_000] {
            for concealed in [-1.0, 0.0, 0.5, 1.0, 7.0] {
                for codec in Codec::ALL {
                    assert!((1.0..=4.5).contains(&score(codec, delay, concealed)));
                }
            }
        }
    }
}
