//! Members behind trunks: brought by another relay, or told of by it.

use std::sync::Arc;

use wzp_relay_core::{
    rooms::{Bearer, JoinError, Member, Via},
    trunk::{Side, Whole},
};
use wzp_socket::clock;
use wzp_wire::{RoomName, SenderId};

use super::{Delivery, Hall, Newcomer, State};
use crate::{
    frames::{Entry, Head, Roster},
    port::{Port, Seat},
};

impl Hall {
    /// Seats a member behind the trunk `port`, where `handle` stands for it; `false` if it stands for another one.
    ///
    /// Somebody who is still here from an earlier session with the same relay goes on under the same number, and
    /// nobody is told: to the others, a new join would be a replay of the old one.
    pub(crate) fn trunk_join(
        &self,
        port: &Arc<Port>,
        handle: u16,
        newcomer: &Newcomer<'_>,
    ) -> Result<bool, JoinError> {
        let mut state = self.lock();
        if let Some(seat) = port.seats.whom(handle) {
            let at = (&seat.room, seat.sender);
            match state.rooms.bearer(at, newcomer.room, newcomer.announcement) {
                Bearer::Same => return Ok(true),
                Bearer::There => return Ok(false),
                Bearer::Gone => {
                    state.remove(&seat, self.side);
                    self.changed.notify_one();
                }
            }
        }
        if self.side == Side::Downstream && !state.has_own_member(newcomer.room) {
            // The last member who could hear it has just left.
            return Ok(true);
        }
        let first = !state.rooms.has_trunk(newcomer.room, port.id);
        let via = Via::Trunk {
            id: port.id,
            port: Arc::clone(port),
            handle,
        };
        let (seat, told) = match state.resume(port, newcomer, &via, self.side) {
            Some(seat) => (seat, true),
            None => {
                if self.side == Side::Upstream {
                    let now = clock::now();
                    state.rooms.admit(now, newcomer.room, newcomer.announcement)?;
                }
                let member = Member::new(newcomer.announcement, false, via);
                (state.seat(newcomer, member)?, false)
            }
        };
        port.seats.enter(handle, Some(Arc::clone(&seat)));
        if self.side == Side::Upstream {
            let others = if first {
                state.trunk_members(newcomer.room, port)
            } else {
                Vec::new()
            };
            let head = Head::Trunk {
                handle,
                sender: seat.sender,
                whole: first,
            };
            port.outbox.push_roster(Roster::new(head, others));
        }
        if !told {
            state.tell_joined(&seat, self.side);
        }
        self.changed.notify_one();
        Ok(true)
    }

    /// The member for which `handle` stands in trunks of the other relay is gone.
    pub(crate) fn trunk_leave(&self, port: &Port, handle: u16) {
        if let Some(seat) = port.seats.whom(handle) {
            self.lock().remove(&seat, self.side);
            self.changed.notify_one();
        }
    }

    /// Whoever is not in `whole`, which came over the trunk `port`, has left and nobody has said so.
    pub(crate) fn trunk_listed(&self, port: &Port, whole: &Whole) {
        let mut state = self.lock();
        for sender in state.rooms.missing(port.id, whole) {
            state.remove_at(whole.room(), sender, self.side);
        }
        self.changed.notify_one();
    }

    /// Everybody behind a trunk is gone, because the trunk is; except those who came back through another.
    pub(crate) fn lose_trunk(&self, port: &Port) {
        let mut state = self.lock();
        for (room, sender) in state.rooms.behind(port.id) {
            state.remove_at(&room, sender, self.side);
        }
        self.changed.notify_one();
    }

    /// The same between members of whom at least one is behind a trunk.
    pub(crate) fn trunk_peer_message(&self, port: &Port, from: u16, to: u16, payload: Vec<u8>) -> Delivery {
        let Some(seat) = port.seats.whom(from) else {
            return Delivery::NotInRoom;
        };
        let state = self.lock();
        match state.rooms.of_handle(to) {
            Some((room, sender)) if *room == seat.room => state.deliver(&seat, *sender, payload),
            _ => Delivery::NobodyThere,
        }
    }
}

impl State {
    fn remove_at(&mut self, room: &RoomName, sender: SenderId, side: Side) {
        if let Some(cell) = self.cells.get(room).map(Arc::clone) {
            let room = room.clone();
            self.remove(&Seat::of(sender, room, cell), side);
        }
    }

    /// The seat of somebody who was brought by the same relay before, in a session that broke. Or, downstream, under
    /// another handle: whom the upstream relay has seen leave and come back, unheard by us, has a new one.
    fn resume(
        &mut self,
        port: &Port,
        newcomer: &Newcomer<'_>,
        via: &Via<Arc<Port>>,
        side: Side,
    ) -> Option<Arc<Seat>> {
        let same = |member: &Member<Arc<Port>>| match &member.via {
            Via::Trunk { port: old, .. } => {
                let before = old.id != port.id || side == Side::Downstream;
                before && old.peer == port.peer && *member.announcement == *newcomer.announcement
            }
            Via::Direct(_) | Via::Peers => false,
        };
        let (sender, member) = self
            .rooms
            .members(newcomer.room)
            .find(|(_, member)| same(member))?;
        if let Via::Trunk {
            port: old, handle, ..
        } = &member.via
        {
            old.seats.enter(*handle, None);
        }
        self.rooms
            .rebind(clock::now(), newcomer.room, sender, via.clone());
        let cell = Arc::clone(self.cells.get(newcomer.room)?);
        Some(Arc::new(Seat::of(sender, newcomer.room.clone(), cell)))
    }

    /// What a relay that brings its first member into `room` has to know. Its own are no news to it, also those whom it
    /// brought over a trunk that broke and has not brought again: some of them have left since.
    fn trunk_members(&self, room: &RoomName, trunk: &Port) -> Vec<Entry> {
        let others = self.rooms.members(room).filter(|(_, member)| match &member.via {
            Via::Trunk { port, .. } => port.peer != trunk.peer,
            Via::Direct(_) | Via::Peers => true,
        });
        let known = others.filter_map(|(sender, member)| {
            Some(Entry {
                sender,
                key: member.handle?,
                announcement: Arc::clone(&member.announcement),
            })
        });
        known.collect()
    }
}
