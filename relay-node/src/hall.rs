//! All rooms of the relay, and the telling of who came and who went.
//!
//! One short lock guards membership. News are queued under it, so that everybody hears them in the same order; the
//! packet loops only ever see the snapshots that [`Hall::publish`] swaps in.

mod cluster;
mod leasing;
mod peering;
mod trunks;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::{sync::Notify, time};
use wzp_relay_core::{
    FanOut, Rooms, To,
    outbox::Share,
    rooms::{self, JoinError, Member, Via},
    trunk::Side,
};
use wzp_socket::clock;
use wzp_wire::{Epoch, RoomName, SenderId};

use crate::{
    cluster::Cluster,
    frames::{self, Entry, Head, Roster},
    port::{Port, RoomCell, Seat, Seats},
    random::SystemRng,
};

use cluster::Together;
pub(crate) use cluster::{Moved, Placed};
pub(crate) use peering::Told;

/// Rooms and their members.
pub(crate) struct Hall {
    state: Mutex<State>,
    changed: Notify,
    side: Side,
}

struct State {
    rooms: Rooms<Arc<Port>>,
    cells: HashMap<RoomName, Arc<RoomCell>>,
    upstream: Option<Arc<Port>>,
    /// In a cluster.
    together: Option<Box<Together>>,
}

/// Somebody who wants to enter.
pub(crate) struct Newcomer<'a> {
    pub(crate) room: &'a RoomName,
    pub(crate) announcement: &'a [u8],
    pub(crate) echo: bool,
    pub(crate) preferred: Option<SenderId>,
}

/// Rooms and members at one moment.
pub(crate) struct Occupancy {
    pub(crate) rooms: usize,
    pub(crate) members: usize,
}

impl Hall {
    pub(crate) fn new(config: rooms::Config, cluster: Option<&Arc<Cluster>>) -> Self {
        let state = State {
            rooms: Rooms::new(config),
            cells: HashMap::new(),
            upstream: None,
            together: cluster.map(|cluster| Box::new(Together::new(Arc::clone(cluster)))),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            side: config.side,
        }
    }

    /// Seats a member of ours, answers `request` and tells everybody. The handle stands for it upstream, if there
    /// is an upstream.
    pub(crate) fn join(
        &self,
        port: &Arc<Port>,
        request: u32,
        newcomer: &Newcomer<'_>,
    ) -> Result<Joined, JoinError> {
        let member = Member::new(
            newcomer.announcement,
            newcomer.echo,
            Via::Direct(Arc::clone(port)),
        );
        let mut state = self.lock();
        state
            .rooms
            .admit(clock::now(), newcomer.room, newcomer.announcement)?;
        let seat = state.seat(newcomer, member)?;
        if let Seats::Member(slot) = &port.seats {
            slot.store(Some(Arc::clone(&seat)));
        }
        let others = state
            .rooms
            .members(newcomer.room)
            .filter(|&(sender, _)| sender != seat.sender);
        let others = others.map(|(sender, member)| Entry {
            sender,
            key: sender.get(),
            announcement: Arc::clone(&member.announcement),
        });
        let head = Head::Room {
            request,
            sender: seat.sender,
            epoch: Epoch::NONE,
        };
        port.outbox.push_roster(Roster::new(head, others.collect()));
        state.tell_joined(&seat, self.side);
        let handle = state
            .rooms
            .member(newcomer.room, seat.sender)
            .and_then(|member| member.handle);
        self.changed.notify_one();
        Ok(Joined {
            sender: seat.sender,
            handle,
        })
    }

    /// Takes the member of `port` out of its room; `false` if it is in none.
    pub(crate) fn leave(&self, port: &Port) -> bool {
        let Seats::Member(slot) = &port.seats else {
            return false;
        };
        let Some(seat) = slot.swap(None) else { return false };
        let mut state = self.lock();
        port.outbox.leave_room();
        if state.together.is_some() {
            state.exit(clock::now(), &seat);
            self.changed.notify_one();
            return true;
        }
        state.remove(&seat, self.side);
        if self.side == Side::Downstream {
            state.clear_if_abandoned(&seat.room, self.side);
        }
        self.changed.notify_one();
        true
    }

    /// Where members of ours are announced upstream; `None` while there is no upstream.
    pub(crate) fn set_upstream(&self, upstream: Option<Arc<Port>>) {
        self.lock().upstream = upstream;
    }

    /// Queues `frame` for the upstream relay, if there is one now.
    pub(crate) fn send_upstream(&self, frame: Bytes) {
        if let Some(upstream) = &self.lock().upstream {
            upstream.outbox.push(frame);
        }
    }

    /// A message of the member of `port` to another one in its room.
    pub(crate) fn peer_message(&self, port: &Port, to: SenderId, payload: Vec<u8>) -> Delivery {
        let Seats::Member(slot) = &port.seats else {
            return Delivery::NotInRoom;
        };
        match &*slot.load() {
            Some(seat) => self.lock().deliver(seat, to, payload),
            None => Delivery::NotInRoom,
        }
    }

    /// The member of ours for which `handle` stands upstream.
    pub(crate) fn own(&self, handle: u16) -> Option<Arc<Port>> {
        let state = self.lock();
        let (room, sender) = state.rooms.of_handle(handle)?;
        match &state.rooms.member(room, *sender)?.via {
            Via::Direct(port) => Some(Arc::clone(port)),
            Via::Trunk { .. } | Via::Peers => None,
        }
    }

    /// The room of the member for which `handle`, one of ours, stands.
    pub(crate) fn room_of(&self, handle: u16) -> Option<RoomName> {
        self.lock().rooms.of_handle(handle).map(|(room, _)| room.clone())
    }

    pub(crate) fn occupancy(&self) -> Occupancy {
        let state = self.lock();
        Occupancy {
            rooms: state.rooms.room_count(),
            members: state.rooms.member_count(),
        }
    }

    /// Publishes snapshots when they are due, for ever.
    pub(crate) async fn publish(&self) {
        loop {
            let due = self.publish_due();
            match due {
                None => self.changed.notified().await,
                Some(wait) => time::sleep(wait).await,
            }
        }
    }

    fn publish_due(&self) -> Option<std::time::Duration> {
        let now = clock::now();
        let mut state = self.lock();
        while let Some((room, fan_out)) = state.rooms.poll_publish(now) {
            let gone = fan_out.sources().is_empty();
            if let Some(cell) = state.cells.get(&room) {
                cell.store(Arc::new(fan_out));
            }
            if gone {
                state.cells.remove(&room);
            }
        }
        Some(state.rooms.poll_timeout()?.duration_since(now))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member of ours that came in.
pub(crate) struct Joined {
    pub(crate) sender: SenderId,
    pub(crate) handle: Option<u16>,
}

/// What became of a message from member to member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Done,
    NotInRoom,
    NobodyThere,
    /// The receiver has too many of others' messages to read.
    Lost,
}

impl State {
    fn seat(&mut self, newcomer: &Newcomer<'_>, member: Member<Arc<Port>>) -> Result<Arc<Seat>, JoinError> {
        let now = clock::now();
        let sender = self
            .rooms
            .join(now, &mut SystemRng, newcomer.room, newcomer.preferred, member)?;
        let cell = self.cells.entry(newcomer.room.clone());
        let cell = cell.or_insert_with(|| Arc::new(ArcSwap::from_pointee(FanOut::empty())));
        let seat = Seat::of(sender, newcomer.room.clone(), Arc::clone(cell));
        Ok(Arc::new(seat))
    }

    fn remove(&mut self, seat: &Seat, side: Side) {
        let Some(member) = self.rooms.leave(clock::now(), &seat.room, seat.sender) else {
            return;
        };
        if let Via::Trunk { port, handle, .. } = &member.via {
            port.seats.enter(*handle, None);
        }
        let left = frames::member_left(seat.sender);
        for outlet in self.rooms.outlets(&seat.room) {
            match (outlet.to, member.handle) {
                (To::Member(_), _) => outlet.port.outbox.push_left(seat.sender.get(), left.clone()),
                (To::Trunk(_), Some(handle)) if side == Side::Upstream => {
                    let left = frames::trunk_member_left(&seat.room, handle);
                    outlet.port.outbox.push_left(handle, left);
                }
                (To::Trunk(_), _) => {}
            }
        }
        if side == Side::Downstream
            && let (Some(upstream), Some(handle)) = (&self.upstream, member.handle)
        {
            upstream.outbox.push(frames::trunk_leave(handle));
        }
    }

    fn tell_joined(&self, seat: &Seat, side: Side) {
        let Some(member) = self.rooms.member(&seat.room, seat.sender) else {
            return;
        };
        let frame = frames::member_joined(seat.sender, &member.announcement);
        for outlet in self.rooms.outlets(&seat.room) {
            match (outlet.to, member.handle) {
                (To::Member(sender), _) if sender != seat.sender => {
                    outlet.port.outbox.push_came(seat.sender.get(), frame.clone());
                }
                (To::Trunk(id), Some(handle)) if side == Side::Upstream && member.trunk() != Some(id) => {
                    let member = frames::trunk_member(handle, seat.sender, &member.announcement);
                    let came = frames::trunk_member_joined(&seat.room, member, Epoch::NONE);
                    outlet.port.outbox.push_came(handle, came);
                }
                _ => {}
            }
        }
    }

    fn deliver(&self, from: &Seat, to: SenderId, payload: Vec<u8>) -> Delivery {
        let Some(receiver) = self.rooms.member(&from.room, to) else {
            return Delivery::NobodyThere;
        };
        let queued = match &receiver.via {
            Via::Direct(port) => {
                let frame = frames::peer_message(from.sender, payload);
                port.outbox.push_peer(from.sender.get(), Share::Member, frame)
            }
            Via::Trunk { port, handle, .. } => {
                let sender = self
                    .rooms
                    .member(&from.room, from.sender)
                    .and_then(|member| member.handle);
                let Some(sender) = sender else {
                    return Delivery::NobodyThere;
                };
                let frame = frames::trunk_peer_message(sender, *handle, payload);
                port.outbox.push_peer(sender, Share::Relay, frame)
            }
            Via::Peers => return self.deliver_to_peer(from, receiver, payload),
        };
        if queued { Delivery::Done } else { Delivery::Lost }
    }

    fn has_own_member(&self, room: &RoomName) -> bool {
        self.rooms
            .members(room)
            .any(|(_, member)| member.trunk().is_none())
    }

    /// Downstream, the upstream tells nothing more of a room without a member of ours.
    fn clear_if_abandoned(&mut self, room: &RoomName, side: Side) {
        if self.has_own_member(room) {
            return;
        }
        let left: Vec<_> = self.rooms.members(room).map(|(sender, _)| sender).collect();
        let Some(cell) = self.cells.get(room).map(Arc::clone) else {
            return;
        };
        for sender in left {
            let (room, cell) = (room.clone(), Arc::clone(&cell));
            self.remove(&Seat::of(sender, room, cell), side);
        }
    }
}
