//! When an IO thread lets QUIC packets gather before it looks again.
//!
//! Members on QUIC datagrams acknowledge what they get: nearly as many small packets in as voice out, one by one. Each
//! would wake the IO thread, which would wake the endpoint's: on a busy relay most of QUIC's cost beside the system calls.

use std::time::Duration;

use wzp_wire::Instant;

use crate::recv::BATCH;

/// How long a thread rests.
const REST: Duration = Duration::from_micros(300);
/// Packets that come more than this after the ones before are not gathering.
const CLOSE: Duration = Duration::from_micros(500);

/// What the thread remembers of its last turn.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    last: Option<Instant>,
}

impl Rests {
    /// How long to leave the socket alone after the turn at `now` took `taken` datagrams, `quic` of them for QUIC.
    ///
    /// Only what is QUIC alone may wait, for media on lanes is late by then; and only when packets come close together,
    /// for a rest after which there is one packet costs more than it saves.
    pub(crate) fn after(&mut self, now: Instant, taken: usize, quic: u64) -> Option<Duration> {
        let close = self.last.is_some_and(|last| now.duration_since(last) < CLOSE);
        if taken > 0 {
            self.last = Some(now);
        }
        let gathering = taken > 0 && taken < BATCH && quic == taken as u64;
        (gathering && close).then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_micros(1_000_000);

    fn after(rests: &mut Rests, at_us: u64, taken: usize, quic: u64) -> bool {
        rests
            .after(START + Duration::from_micros(at_us), taken, quic)
            .is_some()
    }

    #[test]
    fn only_packets_close_together_gather() {
        let mut rests = Rests::default();
        assert!(!after(&mut rests, 0, 1, 1), "the first packet waits for nobody");
        assert!(!after(&mut rests, 600, 1, 1), "and neither does the odd one");
        assert!(after(&mut rests, 700, 1, 1));
        assert!(
            after(&mut rests, 1_010, 20, 20),
            "what came during a rest was close"
        );
        assert!(!after(&mut rests, 2_000, 0, 0), "an empty turn is none");
    }

    #[test]
    fn media_on_lanes_and_full_batches_never_wait() {
        let mut rests = Rests::default();
        after(&mut rests, 0, 1, 1);
        assert!(!after(&mut rests, 10, 2, 1), "one of the two came on a lane");
        assert!(
            !after(&mut rests, 20, BATCH, BATCH as u64),
            "more is waiting already"
        );
    }
}
