//! The live status line of a call, on a terminal only.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use crate::report::Second;

/// Back to the first column, and everything to the right of it gone.
const CLEAR: &str = "\r\x1b[2K";
const METER: usize = 8;
/// What the meter shows: from its first bar to its last.
const QUIET_DBOV: f64 = -60.0;

/// Draws the line, or does nothing where nobody would see it.
#[derive(Debug)]
pub(crate) struct Status {
    visible: bool,
}

impl Status {
    /// A line on standard error, if that is a terminal.
    pub(crate) fn new() -> Self {
        Self {
            visible: io::stderr().is_terminal(),
        }
    }

    /// A line that is never drawn.
    pub(crate) fn hidden() -> Self {
        Self { visible: false }
    }

    /// Replaces the line.
    pub(crate) fn show(&self, line: &str) {
        if self.visible {
            let _ = write!(io::stderr(), "{CLEAR}{line}");
        }
    }

    /// Removes the line.
    pub(crate) fn clear(&self) {
        if self.visible {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }
}

/// Removes whatever status line there may be.
pub(crate) fn clear() {
    Status::new().clear();
}

/// Standard error for a log line: it takes the place of the status line, which is drawn again below it.
pub(crate) fn above() -> io::Stderr {
    clear();
    io::stderr()
}

/// The status line of one second of a call; at most 79 columns.
pub(crate) fn line(second: &Second) -> String {
    let mut line = format!("{} {} ", clock(second.elapsed), meter(second.level_dbov));
    let or_dash = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    let (rtt, jitter) = (or_dash(second.rtt_ms), or_dash(second.jitter_ms));
    // A decimal matters while the loss is small.
    let decimals = usize::from(second.loss_percent < 10.0);
    let _ = write!(
        line,
        "{:>4.0} dB  loss {:.decimals$}%  jitter {jitter}ms  rtt {rtt}ms  {}  {}",
        second.level_dbov, second.loss_percent, second.tier, second.carrier
    );
    line
}

fn clock(elapsed: Duration) -> String {
    let secs = elapsed.as_secs();
    format!("{}:{:02}", secs / 60, secs % 60)
}

fn meter(level_dbov: f64) -> String {
    let share = (1.0 - level_dbov / QUIET_DBOV).clamp(0.0, 1.0);
    let full = (share * METER as f64).round() as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(METER - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second() -> Second {
        Second {
            elapsed: Duration::from_secs(3_725),
            level_dbov: -100.0,
            rtt_ms: Some(1_234.5),
            loss_percent: 100.0,
            jitter_ms: Some(999.0),
            delay_ms: Some(400.0),
            concealed_ms: 1_000,
            mos: Some(1.0),
            tier: "catastrophic",
            carrier: "quic",
        }
    }

    #[test]
    fn line_fits_a_narrow_terminal_at_its_worst() {
        let line = line(&second());
        assert!(line.chars().count() < 80, "{line} {}", line.chars().count());
        assert!(line.starts_with("62:05 ░░░░░░░░ -100 dB  loss 100%"), "{line}");
    }

    #[test]
    fn meter_spans_sixty_decibels() {
        assert_eq!(meter(0.0), "█".repeat(8));
        assert_eq!(meter(-30.0), "████░░░░");
        assert_eq!(meter(f64::NEG_INFINITY), "░".repeat(8));
    }
}
