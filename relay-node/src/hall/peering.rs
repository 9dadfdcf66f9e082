//! Members of other relays of the cluster: each relay tells the others of its own.

use std::sync::Arc;

use wzp_relay_core::{
    Origin,
    rooms::{Behind, JoinError},
    trunk::Side,
};
use wzp_socket::clock;
use wzp_wire::{Epoch, RelayId, RoomName, SenderId};

use super::{Delivery, Hall, State};
use crate::{frames, port::Port};

/// Somebody of whom a peer tells.
pub(crate) struct Told<'a> {
    pub(crate) room: &'a RoomName,
    pub(crate) handle: u16,
    pub(crate) sender: SenderId,
    pub(crate) announcement: &'a [u8],
    /// The highest epoch of the room that the peer has seen.
    pub(crate) epoch: Epoch,
}

impl Hall {
    /// A session with another relay of the cluster, which replaces one there may be: that one is returned.
    pub(crate) fn peer_up(&self, port: &Arc<Port>) -> Option<Arc<Port>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (Some(together), Some(link)) = (&mut state.together, &port.link) else {
            return None;
        };
        let before = together.peers.insert(link.relay.clone(), Arc::clone(port));
        let rooms: Vec<_> = together.leases.rooms().map(|(room, _)| room.clone()).collect();
        if let Some(before) = &before {
            state.rooms.cut(clock::now(), before.id);
        }
        for room in rooms {
            state.update_partners(&room);
        }
        self.changed.notify_one();
        before
    }

    /// The session is over; its members stay until [`Self::lose_peer`].
    pub(crate) fn peer_down(&self, port: &Port) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let (Some(together), Some(link)) = (&mut state.together, &port.link) else {
            return;
        };
        if together
            .peers
            .get(&link.relay)
            .is_some_and(|live| live.id == port.id)
        {
            together.peers.remove(&link.relay);
            for told in together.told.values_mut() {
                told.remove(&link.relay);
            }
        }
        state.rooms.cut(clock::now(), port.id);
        self.changed.notify_one();
    }

    /// Whoever was only behind this session, and came through no other since, is gone.
    pub(crate) fn lose_peer(&self, port: &Port) {
        let mut state = self.lock();
        for (room, sender) in state.rooms.behind(port.id) {
            state.take_away(port, &room, sender);
        }
        self.changed.notify_one();
    }

    /// A peer tells of a member that is connected to it.
    ///
    /// # Errors
    /// One too many for this relay: it is not heard, and nobody else suffers.
    pub(crate) fn peer_joined(&self, port: &Arc<Port>, told: &Told<'_>) -> Result<(), JoinError> {
        let now = clock::now();
        let mut state = self.lock();
        let Some(together) = &mut state.together else {
            return Ok(());
        };
        let decision = together.leases.handle_peer_epoch(now, told.room, told.epoch);
        state.follow(now, told.room, decision);
        if let Some(seat) = port.seats.whom(told.handle)
            && (seat.room != *told.room || seat.sender != told.sender)
        {
            state.peer_left(port, told.handle);
        }
        let behind = Behind {
            trunk: port.id,
            port: Arc::clone(port),
            handle: told.handle,
        };
        let change = match state
            .rooms
            .bring(now, told.room, told.sender, told.announcement, behind)
        {
            Ok(change) => change,
            // Whoever came here itself counts.
            Err(JoinError::AnnouncementInUse) => return Ok(()),
            Err(error) => return Err(error),
        };
        let seat = state.seat_at(told.room, told.sender, Origin::Peer);
        port.seats.enter(told.handle, Some(seat));
        state.settle(told.room, told.sender, change);
        state.update_partners(told.room);
        self.changed.notify_one();
        Ok(())
    }

    /// A peer has a member no more.
    pub(crate) fn peer_left(&self, port: &Port, handle: u16) {
        self.lock().peer_left(port, handle);
        self.changed.notify_one();
    }

    /// A message of a peer's member to one of ours.
    pub(crate) fn message_of_peer(&self, port: &Port, from: u16, to: u16, payload: Vec<u8>) -> Delivery {
        let ours = port.link.as_ref().is_some_and(|link| link.side.owns(to));
        let Some(seat) = port.seats.whom(from).filter(|_| ours) else {
            return Delivery::NotInRoom;
        };
        let state = self.lock();
        match state.rooms.of_handle(Side::Downstream.mark(to)) {
            Some((room, sender)) if *room == seat.room => state.deliver(&seat, *sender, payload),
            _ => Delivery::NobodyThere,
        }
    }

    /// The relays to which sessions are needed, and whether it is we who call.
    pub(crate) fn wanted_peers(&self) -> Vec<(RelayId, bool)> {
        let state = self.lock();
        let Some(together) = &state.together else {
            return Vec::new();
        };
        let (now, leases) = (clock::now(), &together.leases);
        let mut wanted = std::collections::BTreeMap::new();
        for (room, _) in leases.rooms() {
            if leases.forwards_under(now, room).is_none() {
                continue;
            }
            // The relays of the new set need not know one that is on its way out.
            let leaves = leases.lease(room).is_some_and(|lease| !lease.names(leases.me()));
            for relay in leases.partners(room) {
                let calls = leaves || leases.me() < relay;
                *wanted.entry(relay.clone()).or_insert(false) |= calls;
            }
        }
        wanted.into_iter().collect()
    }
}

impl State {
    fn peer_left(&mut self, port: &Port, handle: u16) {
        let Some(seat) = port.seats.whom(handle) else {
            return;
        };
        port.seats.enter(handle, None);
        self.take_away(port, &seat.room, seat.sender);
    }

    fn take_away(&mut self, port: &Port, room: &RoomName, sender: SenderId) {
        if self
            .rooms
            .take_away(clock::now(), room, sender, port.id)
            .is_some()
        {
            self.tell_left(room, sender);
        }
        self.update_partners(room);
    }

    /// Tells the relays that serve `room` now of our members in it, and those that do no more that they left.
    pub(super) fn update_partners(&mut self, room: &RoomName) {
        let Some(together) = &self.together else { return };
        let serves = |relay: &RelayId| together.leases.partners(room).any(|other| other == relay);
        let wanted = together
            .peers
            .iter()
            .filter(|(relay, port)| serves(relay) || self.rooms.has_trunk(room, port.id));
        let wanted: Vec<_> = wanted
            .map(|(relay, port)| (relay.clone(), Arc::clone(port)))
            .collect();
        let told = together.told.get(room).cloned().unwrap_or_default();
        for (relay, port) in &wanted {
            if told.get(relay) != Some(&port.id) {
                for (_, sender) in self.own_members(room) {
                    self.tell_came_to(port, room, sender);
                }
            }
        }
        for relay in told.keys() {
            let live = together.peers.get(relay);
            if let Some(port) = live.filter(|_| !wanted.iter().any(|(other, _)| other == relay)) {
                for (_, sender) in self.own_members(room) {
                    self.tell_left_to(port, room, sender);
                }
            }
        }
        let told = wanted.into_iter().map(|(relay, port)| (relay, port.id)).collect();
        if let Some(together) = &mut self.together {
            if self.rooms.direct_count(room) == 0 {
                together.told.remove(room);
            } else {
                together.told.insert(room.clone(), told);
            }
        }
    }

    pub(super) fn tell_partners_came(&self, room: &RoomName, sender: SenderId) {
        for port in self.told_partners(room) {
            self.tell_came_to(&port, room, sender);
        }
    }

    pub(super) fn tell_partners_left(&self, room: &RoomName, handle: u16) {
        for port in self.told_partners(room) {
            let left = frames::trunk_member_left(room, port.marked(handle));
            port.outbox.push_left(handle, left);
        }
    }

    fn told_partners(&self, room: &RoomName) -> Vec<Arc<Port>> {
        let Some(together) = &self.together else {
            return Vec::new();
        };
        let told = together.told.get(room).into_iter().flatten();
        let ports = told.filter_map(|(relay, _)| together.peers.get(relay));
        ports.map(Arc::clone).collect()
    }

    fn tell_came_to(&self, port: &Port, room: &RoomName, sender: SenderId) {
        let member = self.rooms.member(room, sender);
        let (Some(member), Some(together)) = (member, &self.together) else {
            return;
        };
        let Some(handle) = member.handle else { return };
        let told = frames::trunk_member(port.marked(handle), sender, &member.announcement);
        let epoch = together.leases.seen(room);
        let came = frames::trunk_member_joined(room, told, epoch);
        port.outbox.push_came(handle, came);
    }

    fn tell_left_to(&self, port: &Port, room: &RoomName, sender: SenderId) {
        let handle = self.rooms.member(room, sender).and_then(|member| member.handle);
        if let Some(handle) = handle {
            let left = frames::trunk_member_left(room, port.marked(handle));
            port.outbox.push_left(handle, left);
        }
    }
}
