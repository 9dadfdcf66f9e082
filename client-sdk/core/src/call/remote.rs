//! One member that we hear.

use std::time::Duration;

use wzp_wire::{Instant, ReceiverReport, SenderId, signal::proto::QualityReport};

use super::mix::Mixer;
use crate::{
    e2ee::Opened,
    voice::{
        codec::Codecs,
        drift::Drift,
        jitter,
        mode::Tier,
        receiver::{PULL, Receiver, Stats},
    },
};

/// How one member is heard, or that it is not: of a member whose packets never opened only `key_mismatch` is not zero.
#[derive(Debug, Clone)]
pub struct RemoteStats {
    /// Its sender id.
    pub sender: SenderId,
    /// Figures of its receiver.
    pub stats: Stats,
    /// Its clock against ours, once there is enough to tell.
    pub drift: Option<Drift>,
    /// Packets of it that could not be opened.
    pub key_mismatch: u32,
    /// The tier that it asks us for, or needs by its loss, where that is less than we send.
    pub asks_for: Option<Tier>,
}

pub(super) struct Remote<C: Codecs> {
    pub(super) sender: SenderId,
    receiver: Receiver<C>,
    /// What we last told it about itself.
    told: Option<ReceiverReport>,
    /// What the relay was told about it so far.
    before: Stats,
}

impl<C: Codecs> Remote<C> {
    pub(super) fn new(sender: SenderId, codecs: C) -> Self {
        Self {
            sender,
            receiver: Receiver::new(sender, codecs, jitter::Config::default()),
            told: None,
            before: Stats::default(),
        }
    }

    pub(super) fn handle_packet(&mut self, now: Instant, opened: &Opened<'_>) -> Option<ReceiverReport> {
        self.receiver
            .handle_packet(now, &opened.header, opened.counter, opened.payload)
    }

    pub(super) fn pull(&mut self, now: Instant, mixer: &mut Mixer, out: &mut [f32; PULL]) {
        mixer.add(out, |voice| {
            self.receiver.pull(now, voice);
        });
    }

    pub(super) fn report(&mut self, rtt: Duration, mismatches: u32) -> ReceiverReport {
        self.receiver.set_rtt(rtt);
        let report = ReceiverReport {
            key_mismatch: u8::try_from(mismatches).unwrap_or(u8::MAX),
            ..self.receiver.report()
        };
        self.told = Some(report);
        report
    }

    /// What the relay is to know of it since the last time; ratios only once there was a report about it.
    pub(super) fn relay_report(&mut self) -> QualityReport {
        let stats = self.receiver.stats();
        let since = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let recovered = since(stats.recovered, self.before.recovered);
        let unrecovered = since(stats.lost, self.before.lost).saturating_sub(recovered);
        self.before = stats;
        let counts = QualityReport {
            fec_recovered: recovered,
            fec_unrecovered: unrecovered,
            longest_gap_ms: u32::try_from(self.receiver.take_gap().as_millis()).unwrap_or(u32::MAX),
            ..QualityReport::default()
        };
        let Some(told) = self.told else { return counts };
        QualityReport {
            loss_permille: told.loss_permille.into(),
            late_permille: told.late_permille.into(),
            concealed_permille: told.concealed_permille.into(),
            jitter_ms: told.jitter_ms.into(),
            rtt_ms: told.rtt_ms.into(),
            mos_centi: told.mos_centi.into(),
            ..counts
        }
    }

    pub(super) fn stats(&mut self, key_mismatch: u32, asks_for: Option<Tier>) -> RemoteStats {
        RemoteStats {
            sender: self.sender,
            stats: self.receiver.stats(),
            drift: self.receiver.drift(),
            key_mismatch,
            asks_for,
        }
    }
}
