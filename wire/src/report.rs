//! Receiver reports: how one sender is heard, told to it inside the sealed payload.
//!
//! 18 bytes, big endian, in front of the frames of a packet whose header has the report flag:
//!
//! ```text
//! about u16 ‖ loss ‰ u16 ‖ late ‰ u16 ‖ concealed ‰ u16 ‖ jitter ms u16 ‖ rtt ms u16 ‖ delay ms u16
//! ‖ MOS × 100 u16 ‖ key mismatches u8 ‖ highest tier u8
//! ```

use crate::SenderId;

/// Length of a report.
pub const REPORT_LEN: usize = 18;

/// What a receiver hears of one sender, over the time since its last report about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiverReport {
    /// Whose packets it judges.
    pub about: SenderId,
    /// Packets that never came, 0 to 1,000.
    pub loss_permille: u16,
    /// Packets that came too late to be played, 0 to 1,000.
    pub late_permille: u16,
    /// Time that was concealed or silent for want of a packet, 0 to 1,000.
    pub concealed_permille: u16,
    /// Arrival jitter in milliseconds.
    pub jitter_ms: u16,
    /// Round trip to the path's other end in milliseconds; 0 is unknown.
    pub rtt_ms: u16,
    /// Delay that the receiver's jitter buffer aims at, in milliseconds.
    pub delay_ms: u16,
    /// Estimated mean opinion score times 100: 100 to 500, 0 is unknown.
    pub mos_centi: u16,
    /// Packets under a key that the receiver does not have; 255 is that or more.
    pub key_mismatch: u8,
    /// The best tier that the receiver wants to be sent: 1 good, 2 degraded, 3 catastrophic, 0 has no wish.
    pub highest_tier: u8,
}

/// A report that cannot be read. The peer is at fault, since it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Fewer than [`REPORT_LEN`] bytes.
    #[error("receiver report is cut off")]
    Truncated,
    /// A figure that cannot be.
    #[error("receiver report has an impossible value")]
    Reserved,
}

impl ReceiverReport {
    /// Reads a report and gives back what follows it.
    ///
    /// # Errors
    /// See [`ReportError`].
    pub fn decode(payload: &[u8]) -> Result<(Self, &[u8]), ReportError> {
        let (bytes, rest) = payload
            .split_first_chunk::<REPORT_LEN>()
            .ok_or(ReportError::Truncated)?;
        let [
            a0,
            a1,
            b0,
            b1,
            c0,
            c1,
            d0,
            d1,
            e0,
            e1,
            f0,
            f1,
            g0,
            g1,
            h0,
            h1,
            key_mismatch,
            highest_tier,
        ] = *bytes;
        let report = Self {
            about: SenderId::new(u16::from_be_bytes([a0, a1])).ok_or(ReportError::Reserved)?,
            loss_permille: u16::from_be_bytes([b0, b1]),
            late_permille: u16::from_be_bytes([c0, c1]),
            concealed_permille: u16::from_be_bytes([d0, d1]),
            jitter_ms: u16::from_be_bytes([e0, e1]),
            rtt_ms: u16::from_be_bytes([f0, f1]),
            delay_ms: u16::from_be_bytes([g0, g1]),
            mos_centi: u16::from_be_bytes([h0, h1]),
            key_mismatch,
            highest_tier,
        };
        if report == report.in_range() {
            Ok((report, rest))
        } else {
            Err(ReportError::Reserved)
        }
    }

    /// The report as bytes; figures out of their range are brought to its nearer end.
    pub fn encode(&self) -> [u8; REPORT_LEN] {
        let report = self.in_range();
        let [a0, a1] = report.about.get().to_be_bytes();
        let [b0, b1] = report.loss_permille.to_be_bytes();
        let [c0, c1] = report.late_permille.to_be_bytes();
        let [d0, d1] = report.concealed_permille.to_be_bytes();
        let [e0, e1] = report.jitter_ms.to_be_bytes();
        let [f0, f1] = report.rtt_ms.to_be_bytes();
        let [g0, g1] = report.delay_ms.to_be_bytes();
        let [h0, h1] = report.mos_centi.to_be_bytes();
        let (key, tier) = (report.key_mismatch, report.highest_tier);
        [
            a0, a1, b0, b1, c0, c1, d0, d1, e0, e1, f0, f1, g0, g1, h0, h1, key, tier,
        ]
    }

    fn in_range(&self) -> Self {
        Self {
            loss_permille: self.loss_permille.min(1_000),
            late_permille: self.late_permille.min(1_000),
            concealed_permille: self.concealed_permille.min(1_000),
            mos_centi: if self.mos_centi == 0 {
                0
            } else {
                self.mos_centi.clamp(100, 500)
            },
            highest_tier: self.highest_tier.min(3),
            ..*self
        }
    }
}
