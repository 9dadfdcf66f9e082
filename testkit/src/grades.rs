//! Nine grades of link quality, from a good Wi-Fi to barely anything.
//!
//! Rate, round-trip time, jitter, loss and the correlation of losses are those that iroh's degradation tests
//! use, so that results can be compared; jitter applies to each direction. What those figures leave open is
//! set here, the same way for every grade:
//! - delay varies slowly (time constant 60 ms) and keeps order, plus a spike of five times the jitter on
//!   average every eight seconds, as contention and radio schedulers cause;
//! - a queue of 250 ms stands before the rate limit;
//! - one packet in 200 takes a detour of up to twice the jitter, one in 1,000 arrives twice;
//! - good Wi-Fi, which has no figure for jitter, gets one millisecond.

use std::{fmt, str::FromStr, time::Duration};

use crate::{Jitter, Loss, Profile};

/// A named link quality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grade {
    /// 100 Mbit/s, 16 ms, 0.1 % loss.
    GoodWifi,
    /// 25 Mbit/s, 40 ms ± 12 ms, 1 % loss.
    CongestedWifi,
    /// 8 Mbit/s, 90 ms ± 15 ms, 2 % loss.
    Weak4g,
    /// 3 Mbit/s, 200 ms ± 30 ms, 3 % loss.
    Slow3g,
    /// 1.5 Mbit/s, 300 ms ± 40 ms, 5 % loss.
    CongestedCellular,
    /// 800 kbit/s, 450 ms ± 60 ms, 8 % loss.
    VeryBad,
    /// 25 Mbit/s, 600 ms ± 40 ms, 1.5 % loss.
    Satellite,
    /// 500 kbit/s, 450 ms ± 80 ms, 12 % loss.
    BarelyUsable,
    /// 256 kbit/s, 800 ms ± 150 ms, 25 % loss.
    Absurd,
}

/// The published figures of a grade.
struct Figures {
    name: &'static str,
    rate_kbps: u64,
    rtt_ms: u64,
    jitter_ms: u64,
    loss: f64,
    /// How much likelier than by chance a loss follows a loss: P(lost | lost) = loss + correlation·(1 - loss).
    correlation: f64,
}

impl Grade {
    /// All grades, best first (satellite stands where its loss puts it).
    pub const ALL: [Self; 9] = [
        Self::GoodWifi,
        Self::CongestedWifi,
        Self::Weak4g,
        Self::Slow3g,
        Self::CongestedCellular,
        Self::VeryBad,
        Self::Satellite,
        Self::BarelyUsable,
        Self::Absurd,
    ];

    /// The name used on command lines: `good-wifi`, `weak-4g`, …
    pub fn name(self) -> &'static str {
        self.figures().name
    }

    /// Round-trip time without jitter and queues.
    pub fn rtt(self) -> Duration {
        Duration::from_millis(self.figures().rtt_ms)
    }

    /// One direction of a link of this grade.
    pub fn profile(self) -> Profile {
        let Figures {
            rate_kbps,
            jitter_ms,
            loss,
            correlation,
            ..
        } = self.figures();
        let deviation = Duration::from_millis(jitter_ms);
        let runs_end = (1.0 - loss) * (1.0 - correlation);
        Profile {
            rate_bps: Some(rate_kbps * 1_000),
            queue: Duration::from_millis(250),
            delay: self.rtt() / 2,
            jitter: Jitter {
                deviation,
                memory: Duration::from_millis(60),
                spike: deviation * 5,
                spike_every: Duration::from_secs(8),
            },
            loss: Loss::Burst {
                share: loss,
                mean_run: 1.0 / runs_end,
            },
            reorder: 0.005,
            reorder_by: deviation * 2,
            duplicate: 0.001,
        }
    }

    fn figures(self) -> Figures {
        let (name, rate_kbps, rtt_ms, jitter_ms, loss_percent, correlation_percent) = match self {
            Self::GoodWifi => ("good-wifi", 100_000, 16, 1, 0.1, 0.0),
            Self::CongestedWifi => ("congested-wifi", 25_000, 40, 12, 1.0, 6.0),
            Self::Weak4g => ("weak-4g", 8_000, 90, 15, 2.0, 8.0),
            Self::Slow3g => ("slow-3g", 3_000, 200, 30, 3.0, 10.0),
            Self::CongestedCellular => ("congested-cellular", 1_500, 300, 40, 5.0, 12.0),
            Self::VeryBad => ("very-bad", 800, 450, 60, 8.0, 20.0),
            Self::Satellite => ("satellite", 25_000, 600, 40, 1.5, 6.0),
            Self::BarelyUsable => ("barely-usable", 500, 450, 80, 12.0, 25.0),
            Self::Absurd => ("absurd", 256, 800, 150, 25.0, 40.0),
        };
        let (loss, correlation) = (loss_percent / 100.0, correlation_percent / 100.0);
        Figures {
            name,
            rate_kbps,
            rtt_ms,
            jitter_ms,
            loss,
            correlation,
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text names no grade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownGrade;

impl fmt::Display for UnknownGrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown link grade, known are")?;
        Grade::ALL.iter().try_for_each(|grade| write!(f, " {grade}"))
    }
}

impl std::error::Error for UnknownGrade {}

impl FromStr for Grade {
    type Err = UnknownGrade;

    fn from_str(name: &str) -> Result<Self, UnknownGrade> {
        Self::ALL
            .into_iter()
            .find(|grade| grade.name() == name)
            .ok_or(UnknownGrade)
    }
}

#[cfg(test)]
mod tests {
    use wzp_wire::Instant;

    use super::*;
    use crate::Link;

    #[test]
    fn names_parse_back() {
        for grade in Grade::ALL {
            assert_eq!(grade.name().parse(), Ok(grade));
        }
        assert!("5g".parse::<Grade>().unwrap_err().to_string().ends_with("absurd"));
    }

    #[test]
    fn links_show_the_figures_of_their_grade() {
        for grade in Grade::ALL {
            let profile = grade.profile();
            let mut link: Link<Instant> = Link::new(profile, 11);
            let mut now = Instant::from_micros(1_000_000);
            let n = 30_000;
            let mut delays = Vec::new();
            for _ in 0..n {
                link.send_sized(now, now, 120);
                now += Duration::from_millis(20);
                while let Some((at, sent)) = link.poll_timed(now) {
                    delays.push(at.duration_since(sent).as_secs_f64() * 1e3);
                }
            }
            let mean = delays.iter().sum::<f64>() / delays.len() as f64;
            let loss = link.stats().lost as f64 / f64::from(n);
            let jitter_ms = profile.jitter.deviation.as_secs_f64() * 1e3;
            let one_way_ms = profile.delay.as_secs_f64() * 1e3;
            println!(
                "{grade:20} mean {mean:6.1} ms (base {one_way_ms:5.1}), loss {:5.2} %",
                loss * 100.0
            );
            assert!(
                (mean - one_way_ms).abs() < 1.5 * jitter_ms + 5.0,
                "{grade}: {mean}"
            );
            let Loss::Burst { share, .. } = profile.loss else {
                unreachable!()
            };
            assert!((loss - share).abs() < 0.15 * share + 0.001, "{grade}: {loss}");
            assert_eq!(link.stats().overflowed, 0, "{grade}: voice fits the rate");
        }
    }
}
