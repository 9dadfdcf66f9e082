//! Rooms that several relays of a cluster serve.

use std::sync::Arc;

use wzp_relay_core::{outbox::Share, rooms::Member};

use super::{Delivery, State};
use crate::{
    frames,
    port::{Port, Seat},
};

impl State {
    /// A message for somebody who is connected to other relays of the cluster only: through the one that told of it last.
    pub(super) fn deliver_to_peer(&self, from: &Seat, to: &Member<Arc<Port>>, payload: Vec<u8>) -> Delivery {
        let sender = self.rooms.member(&from.room, from.sender);
        let handle = sender.and_then(|member| member.handle);
        let (Some(handle), Some(behind)) = (handle, to.peers.last()) else {
            return Delivery::NobodyThere;
        };
        let handle = behind.port.marked(handle);
        let frame = frames::trunk_peer_message(handle, behind.handle, payload);
        match behind.port.outbox.push_peer(handle, Share::Relay, frame) {
            true => Delivery::Done,
            false => Delivery::Lost,
        }
    }
}
