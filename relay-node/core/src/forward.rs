//! The hot path: which outlets of a room get a packet.

use wzp_wire::{Instant, Level, SenderId, clear_level};

use crate::{FanOut, fanout::Origin, overload::Shed};

/// First byte of a full header: mini flag and kind bits, and their value for comfort noise (`docs/wire.md`).
const KIND_MASK: u8 = 0x98;
const KIND_COMFORT_NOISE: u8 = 0x10;

/// What a relay can hear of a packet without any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// As claimed by the sender.
    pub level: Level,
    /// A description of background noise: to be forwarded, but nobody's turn to speak.
    pub comfort_noise: bool,
}

impl Heard {
    /// Reads the clear part of a media packet; `None` when it is too short to be one.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let level = clear_level(packet)?;
        let comfort_noise = packet
            .first()
            .is_some_and(|byte| byte & KIND_MASK == KIND_COMFORT_NOISE);
        Some(Self { level, comfort_noise })
    }

    pub(crate) fn speaks(self) -> bool {
        !self.comfort_noise && self.level > Level::SILENCE
    }
}

/// Why a packet goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    /// The snapshot does not have that member (yet, or any more).
    #[error("sender is not in the room")]
    UnknownSender,
    /// Others are louder in a room where only the loudest are forwarded.
    #[error("sender is not among the loudest")]
    NotLoudest,
    /// As [`Self::NotLoudest`], in a room that forwards fewer than it would otherwise.
    #[error("sender is not among the few who are heard while the relay is overloaded")]
    Shed,
}

/// Indices of outlets, in a buffer that is used again for every packet.
#[derive(Debug, Default)]
pub struct Targets(Vec<u16>);

impl Targets {
    /// Room for `outlets` targets, so that rooms up to that size never allocate.
    pub fn with_capacity(outlets: usize) -> Self {
        Self(Vec::with_capacity(outlets))
    }

    /// The targets of the last [`forward()`].
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }
}

/// Puts the outlets that get a packet of `from` into `targets` (indices into [`FanOut::outlets`]).
///
/// The sender's own outlet is among them only if the member asked for its echo; for somebody behind a trunk that
/// outlet is the trunk, so nothing goes back to where it came from. What a peer sends goes to the members who carry
/// here, and to no trunk: every relay of the room gets it from where its sender is. Standby members hear those who are
/// standby here themselves, and those who carry here for less than [`crate::rooms::FRESH`].
///
/// # Errors
/// [`NotForwarded`]; `targets` is empty then.
pub fn forward<P>(
    fan_out: &FanOut<P>,
    from: SenderId,
    origin: Origin,
    heard: Heard,
    now: Instant,
    shed: Shed,
    targets: &mut Targets,
) -> Result<(), NotForwarded> {
    targets.0.clear();
    let source = fan_out.source(from).ok_or(NotForwarded::UnknownSender)?;
    let is_large = fan_out.is_large();
    if let Some(speakers) = fan_out.speakers()
        && let Some(floors) = shed.loudest(is_large, speakers.loudest())
        && !speakers.admit(from, heard, now, floors)
    {
        let by_design = is_large && !shed.narrows_large();
        return Err(if by_design {
            NotForwarded::NotLoudest
        } else {
            NotForwarded::Shed
        });
    }
    let returns = source.echo && origin == Origin::Here;
    let own = (!returns).then_some(source.outlet);
    let (before, from) = fan_out.reach(source, origin, now);
    let others = |outlet: &u16| Some(*outlet) != own;
    targets.0.extend((0..before).filter(others));
    targets.0.extend((from..fan_out.outlet_count()).filter(others));
    Ok(())
}
