//! Setting up lanes over a connection that has proven who is at its other end.

use std::sync::Arc;

use wzp_lane::{Aead, Direction, LaneId, Opener, Sealer, Secret, path::Roaming};
use wzp_socket::{
    quic::lane_secret,
    relay::{Lane, LaneTable},
};
use wzp_wire::signal::{Blob, LaneAccept, LaneOffer};

use crate::port::{OutLane, Port};

/// Every lane this relay receives on.
pub(crate) type Lanes = LaneTable<Arc<Port>>;

/// Why there is no lane; the carrier is QUIC datagrams then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLane {
    #[error("no packet protection in common")]
    Aead,
    #[error("lane number is not higher than the one before")]
    Number,
    #[error("lane table is full")]
    Full,
    #[error("connection is closing")]
    Closing,
    #[error("lane id is out of its range")]
    Id,
}

impl NoLane {
    /// Every value of the label `reason`.
    pub(crate) const LABELS: [&str; 5] = ["aead", "number", "full", "closing", "id"];

    /// The value of the label `reason`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Aead => "aead",
            Self::Number => "number",
            Self::Full => "full",
            Self::Closing => "closing",
            Self::Id => "id",
        }
    }
}

/// The numbers used on one connection: each once, and rising.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Option<u16>);

impl Numbers {
    fn take(&mut self, number: u16) -> Result<(), NoLane> {
        if self.0.is_some_and(|last| number <= last) {
            return Err(NoLane::Number);
        }
        self.0 = Some(number);
        Ok(())
    }
}

/// The relay's answer to an offer, out of what it can do itself. Packets are opened from now on, and until the guard is
/// dropped.
pub(crate) fn accept(
    lanes: &Arc<Lanes>,
    port: &Arc<Port>,
    numbers: &mut Numbers,
    ours: &[Aead],
    offer: &LaneOffer,
) -> Result<(Lane<Arc<Port>>, LaneAccept), NoLane> {
    numbers.take(offer.number)?;
    let aead = Aead::choose(ours, &offer.aeads).ok_or(NoLane::Aead)?;
    let client_id = LaneId::new(&offer.lane_id).ok_or(NoLane::Id)?;
    let receiving = secret(port, Direction::FromClient, offer.number, aead)?;
    let sending = secret(port, Direction::FromServer, offer.number, aead)?;
    let opener = Opener::new(receiving, aead, lanes.layout().len());
    let lane = lanes
        .open(opener, |_| Arc::clone(port))
        .map_err(|_| NoLane::Full)?;
    let accept = LaneAccept {
        number: offer.number,
        lane_id: Blob::new(lane.id().as_slice().to_vec()).ok_or(NoLane::Id)?,
        aead: aead as u32,
    };
    let sealer = Sealer::new(sending, aead, client_id);
    port.set_lane(OutLane::new(sealer, &port.connection, Roaming::Follow));
    Ok((lane, accept))
}

/// A lane that we offer to another relay: it receives already, and sends once the other has accepted.
pub(crate) struct Offered {
    pub(crate) lane: Lane<Arc<Port>>,
    number: u16,
    aeads: &'static [Aead],
}

/// Offers lane 0 under each of `aeads`. Under the first, which most relays choose, packets are opened before the
/// answer is here.
pub(crate) fn offer(
    lanes: &Arc<Lanes>,
    port: &Arc<Port>,
    aeads: &'static [Aead],
) -> Result<(Offered, LaneOffer), NoLane> {
    let number = 0;
    let first = *aeads.first().ok_or(NoLane::Aead)?;
    let lane = lanes
        .open(receiving(lanes, port, number, first)?, |_| Arc::clone(port))
        .map_err(|_| NoLane::Full)?;
    let offer = LaneOffer {
        number,
        lane_id: Blob::new(lane.id().as_slice().to_vec()).ok_or(NoLane::Id)?,
        aeads: aeads.iter().map(|aead| aead.code().into()).collect(),
    };
    Ok((Offered { lane, number, aeads }, offer))
}

impl Offered {
    /// The other relay's answer; the guard keeps the receiving half open.
    pub(crate) fn accepted(
        self,
        lanes: &Lanes,
        port: &Port,
        accept: &LaneAccept,
    ) -> Result<Lane<Arc<Port>>, NoLane> {
        let aead = Aead::choose(self.aeads, &[accept.aead]).ok_or(NoLane::Aead)?;
        if accept.number != self.number {
            return Err(NoLane::Number);
        }
        let id = LaneId::new(&accept.lane_id).ok_or(NoLane::Id)?;
        let secret = secret(port, Direction::FromClient, self.number, aead)?;
        let lane = if self.aeads.first() == Some(&aead) {
            self.lane
        } else {
            self.lane.reopened(receiving(lanes, port, self.number, aead)?)
        };
        let sealer = Sealer::new(secret, aead, id);
        port.set_lane(OutLane::new(sealer, &port.connection, Roaming::Fixed));
        Ok(lane)
    }
}

fn receiving(lanes: &Lanes, port: &Port, number: u16, aead: Aead) -> Result<Opener, NoLane> {
    let secret = secret(port, Direction::FromServer, number, aead)?;
    Ok(Opener::new(secret, aead, lanes.layout().len()))
}

fn secret(port: &Port, direction: Direction, number: u16, aead: Aead) -> Result<Secret, NoLane> {
    lane_secret(&port.connection, direction, number, aead).ok_or(NoLane::Closing)
}
