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
        receiver::{PULL, Receiver, Stats},
    },
};

/// How one member is heard.
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
}

pub(super) struct Remote<C: Codecs> {
    pub(super) sender: SenderId,
    pub(super) key_mismatch: u32,
    receiver: Receiver<C>,
    /// What we last told it about itself.
    told: Option<ReceiverReport>,
    /// What the relay was told about it so far.
    before: Stats,
    mismatches_before: u32,
}

/// The coarse report for the relay's metrics: of the sender that we hear worst, without saying which.
pub(super) fn worst<C: Codecs>(remotes: &mut [Remote<C>]) -> Option<QualityReport> {
    let reports = remotes.iter_mut().filter_map(Remote::relay_report);
    reports.max_by_key(|report| (report.concealed_permille, report.loss_permille))
}

impl<C: Codecs> Remote<C> {
    pub(super) fn new(sender: SenderId, codecs: C) -> Self {
        Self {
            sender,
            key_mismatch: 0,
            receiver: Receiver::new(sender, codecs, jitter::Config::default()),
            told: None,
            before: Stats::default(),
            mismatches_before: 0,
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

    pub(super) fn report(&mut self, rtt: Duration) -> ReceiverReport {
        self.receiver.set_rtt(rtt);
        let report = ReceiverReport {
            key_mismatch: u8::try_from(self.key_mismatch).unwrap_or(u8::MAX),
            ..self.receiver.report()
        };
        self.told = Some(report);
        report
    }

    fn relay_report(&mut self) -> Option<QualityReport> {
        let told = self.told?;
        let stats = self.receiver.stats();
        let since = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
        let recovered = since(stats.recovered, self.before.recovered);
        let report = QualityReport {
            loss_permille: told.loss_permille.into(),
            late_permille: told.late_permille.into(),
            concealed_permille: told.concealed_permille.into(),
            jitter_ms: told.jitter_ms.into(),
            rtt_ms: told.rtt_ms.into(),
            mos_centi: told.mos_centi.into(),
            fec_recovered: recovered,
            fec_unrecovered: since(stats.lost, self.before.lost).saturating_sub(recovered),
            key_mismatch: self.key_mismatch.saturating_sub(self.mismatches_before),
            longest_gap_ms: u32::try_from(stats.longest_gap_ms).unwrap_or(u32::MAX),
        };
        self.before = stats;
        self.mismatches_before = self.key_mismatch;
        Some(report)
    }

    pub(super) fn stats(&mut self) -> RemoteStats {
        RemoteStats {
            sender: self.sender,
            stats: self.receiver.stats(),
            drift: self.receiver.drift(),
            key_mismatch: self.key_mismatch,
        }
    }
}
