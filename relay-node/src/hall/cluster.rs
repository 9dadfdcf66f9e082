//! Members of rooms that several relays of a cluster serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arc_swap::ArcSwap;
use wzp_relay_core::{
    FanOut, Origin, To,
    admission::Refusal,
    leases::{Decision, Leases, Standing},
    outbox::Share,
    rooms::{self, Carries, Change, Member, TrunkId},
};
use wzp_socket::clock;
use wzp_wire::{Epoch, Instant, RelayId, RoomName, SenderId, signal::Reason};

use super::{Delivery, Hall, Newcomer, State};
use crate::{
    cluster::Cluster,
    frames::{self, Entry, Head, Roster},
    outbox::Cut,
    port::{Port, Seat, Seats},
};

/// What the hall of a relay in a cluster knows besides.
pub(super) struct Together {
    pub(super) cluster: Arc<Cluster>,
    pub(super) leases: Leases,
    /// Sessions with other relays.
    pub(super) peers: BTreeMap<RelayId, Arc<Port>>,
    /// Which of them know of our members in a room.
    pub(super) told: BTreeMap<RoomName, BTreeMap<RelayId, TrunkId>>,
    /// Members were to move to relays that nobody has told us the addresses of.
    pub(super) unmoved: BTreeSet<RoomName>,
    /// Since somebody has last asked.
    pub(super) moved: Moved,
}

/// Members who were told to move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) told: u64,
    /// And were told goodbye because they had not.
    pub(crate) stragglers: u64,
}

/// What a grant says of the relays of its room.
pub(crate) struct Placed {
    pub(crate) epoch: Epoch,
    pub(crate) relays: Vec<RelayId>,
    /// The member hears the room through another relay.
    pub(crate) standby: bool,
}

impl Together {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            leases: Leases::new(cluster.id().clone()),
            cluster,
            peers: BTreeMap::new(),
            told: BTreeMap::new(),
            unmoved: BTreeSet::new(),
            moved: Moved::default(),
        }
    }
}

impl Hall {
    /// Seats a member of ours in a room that this relay serves, answers `request` and tells everybody.
    pub(crate) fn enter(
        &self,
        port: &Arc<Port>,
        request: u32,
        newcomer: &Newcomer<'_>,
        placed: &Placed,
    ) -> Result<SenderId, Refusal> {
        let now = clock::now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let result = state.enter(now, port, request, newcomer, placed);
        self.changed.notify_one();
        result
    }

    /// The member of `port` hears its room here from now on, or only waits here. `false`: it is in no room.
    pub(crate) fn carry(&self, port: &Port, here: bool) -> bool {
        let Seats::Member(slot) = &port.seats else {
            return false;
        };
        let Some(seat) = slot.load_full() else {
            return false;
        };
        let done = self
            .lock()
            .rooms
            .carry(clock::now(), &seat.room, seat.sender, here);
        self.changed.notify_one();
        done
    }
}

impl State {
    fn enter(
        &mut self,
        now: Instant,
        port: &Arc<Port>,
        request: u32,
        newcomer: &Newcomer<'_>,
        placed: &Placed,
    ) -> Result<SenderId, Refusal> {
        let room = newcomer.room;
        let epoch = self.take_grant(now, room, placed)?;
        let no_sender = || Refusal::new(Reason::GrantInvalid, "the grant names no sender id");
        let sender = newcomer.preferred.ok_or_else(no_sender)?;
        let known = self.rooms.member(room, sender);
        if known.is_none_or(|member| *member.announcement != *newcomer.announcement) {
            self.rooms.admit(now, room, newcomer.announcement)?;
        }
        let carries = match placed.standby {
            true => Carries::Standby,
            false => Carries::Since(now),
        };
        let entering = rooms::Newcomer {
            sender,
            announcement: newcomer.announcement,
            echo: newcomer.echo,
            carries,
        };
        let change = self.rooms.enter(now, room, &entering, Arc::clone(port))?;
        let seat = self.seat_at(room, sender, Origin::Here);
        if let Seats::Member(slot) = &port.seats {
            slot.store(Some(seat));
        }
        self.answer(port, request, (room, sender), epoch);
        let is_told = change.before.is_some() && change.replaced.is_none();
        self.settle(room, sender, change);
        if !is_told {
            self.tell_partners_came(room, sender);
        }
        self.room_changed(now, room);
        if placed.epoch < epoch {
            // It came with a grant from before the relays of the room changed.
            self.tell_move_to(now, room, port);
        }
        Ok(sender)
    }

    /// Whether a grant opens `room` here, and under which epoch.
    fn take_grant(&mut self, now: Instant, room: &RoomName, placed: &Placed) -> Result<Epoch, Refusal> {
        let Some(together) = &mut self.together else {
            return Ok(Epoch::NONE);
        };
        let is_new = together.leases.standing(now, room) == Standing::Unknown;
        if is_new && together.cluster.is_draining() {
            return Err(Refusal::new(Reason::NotServed, "this relay is being emptied"));
        }
        let (decision, opened) = together
            .leases
            .handle_grant(now, room, placed.epoch, &placed.relays);
        let epoch = together.leases.seen(room);
        self.follow(now, room, decision);
        opened?;
        Ok(epoch)
    }

    fn answer(&self, port: &Port, request: u32, (room, sender): (&RoomName, SenderId), epoch: Epoch) {
        let others = self.rooms.members(room).filter(|&(other, _)| other != sender);
        let others = others.map(|(sender, member)| Entry {
            sender,
            key: sender.get(),
            announcement: Arc::clone(&member.announcement),
        });
        let head = Head::Room {
            request,
            sender,
            epoch,
        };
        port.outbox.push_roster(Roster::new(head, others.collect()));
    }

    /// The member of ours in `seat` has left, here.
    pub(super) fn exit(&mut self, now: Instant, seat: &Seat) {
        let member = self.rooms.member(&seat.room, seat.sender);
        let handle = member.and_then(|member| member.handle);
        if let Some(handle) = handle {
            self.tell_partners_left(&seat.room, handle);
        }
        if self.rooms.exit(now, &seat.room, seat.sender).is_some() {
            self.tell_left(&seat.room, seat.sender);
        }
        self.room_changed(now, &seat.room);
    }

    /// Tells our members what has become of `sender`, and ends what it had before.
    pub(super) fn settle(&mut self, room: &RoomName, sender: SenderId, change: Change<Arc<Port>>) {
        if let Some(before) = change.before {
            if let Seats::Member(slot) = &before.seats {
                slot.store(None);
            }
            let text = "the same member came again over another connection";
            before
                .outbox
                .cut(Cut::Goodbye(Refusal::new(Reason::Replaced, text)));
        }
        if let Some(replaced) = change.replaced {
            for peer in &replaced.peers {
                peer.port.seats.enter(peer.handle, None);
            }
            if let Some(handle) = replaced.handle {
                self.tell_partners_left(room, handle);
            }
            self.tell_left(room, sender);
        }
        if change.came {
            self.tell_came(room, sender);
        }
    }

    fn tell_came(&self, room: &RoomName, sender: SenderId) {
        let Some(member) = self.rooms.member(room, sender) else {
            return;
        };
        let frame = frames::member_joined(sender, &member.announcement);
        for (port, _) in self.own_members(room).filter(|&(_, other)| other != sender) {
            port.outbox.push_came(sender.get(), frame.clone());
        }
    }

    pub(super) fn tell_left(&self, room: &RoomName, sender: SenderId) {
        let frame = frames::member_left(sender);
        for (port, _) in self.own_members(room).filter(|&(_, other)| other != sender) {
            port.outbox.push_left(sender.get(), frame.clone());
        }
    }

    /// Members with a connection to this relay.
    pub(super) fn own_members(&self, room: &RoomName) -> impl Iterator<Item = (Arc<Port>, SenderId)> {
        self.rooms.outlets(room).filter_map(|outlet| match outlet.to {
            To::Member(sender) => Some((outlet.port, sender)),
            To::Trunk(_) => None,
        })
    }

    /// Whoever has to know that members came to `room`, or left it, is told.
    pub(super) fn room_changed(&mut self, now: Instant, room: &RoomName) {
        let members = self.rooms.direct_count(room);
        if let Some(together) = &mut self.together {
            together.leases.handle_members(now, room, members);
            together.cluster.bulletin.room_changed(room);
        }
        self.update_partners(room);
    }

    /// The place of `sender`, who is there.
    pub(super) fn seat_at(&mut self, room: &RoomName, sender: SenderId, origin: Origin) -> Arc<Seat> {
        let cell = self.cells.entry(room.clone());
        let cell = cell.or_insert_with(|| Arc::new(ArcSwap::from_pointee(FanOut::empty())));
        Arc::new(Seat {
            sender,
            room: room.clone(),
            cell: Arc::clone(cell),
            origin,
        })
    }

    /// Does what follows from news of a room.
    pub(super) fn follow(&mut self, now: Instant, room: &RoomName, decision: Decision) {
        match decision {
            Decision::Nothing => return,
            Decision::Serve | Decision::Leave => {
                self.rooms.fence(now, room, false);
                self.update_partners(room);
                self.tell_move(now, room);
            }
            Decision::Fence => self.rooms.fence(now, room, true),
            Decision::Revoke => {
                let refusal = Refusal::new(Reason::RoomDeleted, "the room was deleted");
                self.dismiss(now, room, &refusal);
            }
        }
        if let Some(together) = &self.together {
            together.cluster.bulletin.room_changed(room);
            together.cluster.peers_changed.notify_one();
        }
    }

    /// Nothing goes through `room` any more, and its members are told goodbye.
    /// How many they are.
    pub(super) fn dismiss(&mut self, now: Instant, room: &RoomName, refusal: &Refusal) -> u64 {
        self.rooms.fence(now, room, true);
        let told = self.own_members(room).map(|(port, _)| {
            port.outbox.cut(Cut::Goodbye(refusal.clone()));
        });
        told.map(|()| 1).sum()
    }

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
