//! Every room that one replica knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use wzp_wire::{Epoch, Instant, RelayId, RoomName};

use super::{Far, Lease, Seat};

/// What became of a lease that was told to a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// It is the highest so far.
    New,
    /// It was known.
    Known,
    /// A higher one is known.
    Stale,
}

/// Every room this replica knows, in at most 300 bytes each.
#[derive(Debug, Default)]
pub struct Table {
    rooms: BTreeMap<RoomName, Row>,
    /// Each name once, however many rooms have it.
    names: BTreeSet<Arc<RelayId>>,
}

#[derive(Debug)]
struct Row {
    epoch: Epoch,
    seats: Box<[SeatRow]>,
    /// When it became empty or was deleted; when it was heard of first, if it never had a member.
    empty_since: Instant,
}

#[derive(Clone, Debug)]
struct SeatRow {
    relay: Arc<RelayId>,
    members: u16,
    /// Of the farthest member, when it joined; 0: none said.
    far_ms: u16,
    carries: bool,
}

impl Table {
    /// A row of the database, or what a relay carries. The highest epoch stays.
    pub fn handle_lease(&mut self, now: Instant, lease: &Lease) -> Learnt {
        let old = self.rooms.get(&lease.room);
        match old.map(|row| row.epoch.cmp(&lease.epoch)) {
            Some(std::cmp::Ordering::Greater) => return Learnt::Stale,
            Some(std::cmp::Ordering::Equal) => return Learnt::Known,
            _ => {}
        }
        let kept = |relay: &RelayId| old?.seats.iter().find(|seat| *seat.relay == *relay).cloned();
        let seats: Vec<_> = lease
            .seats
            .iter()
            .map(|seat| {
                let old = kept(&seat.relay);
                let relay = match &old {
                    Some(old) => old.relay.clone(),
                    None => self
                        .names
                        .get(&seat.relay)
                        .cloned()
                        .unwrap_or_else(|| Arc::new(seat.relay.clone())),
                };
                let (members, far_ms) = old.map_or((0, 0), |old| (old.members, old.far_ms));
                SeatRow {
                    relay,
                    members,
                    far_ms,
                    carries: seat.carries,
                }
            })
            .collect();
        let empty_since = old.map_or(now, |row| {
            if lease.seats.is_empty() {
                now
            } else {
                row.empty_since
            }
        });
        self.names.extend(seats.iter().map(|seat| seat.relay.clone()));
        let row = Row {
            epoch: lease.epoch,
            seats: seats.into(),
            empty_since,
        };
        self.rooms.insert(lease.room.clone(), row);
        Learnt::New
    }

    /// A relay has that many direct members in the room. Returns how many it had; `None`: it has no seat there.
    pub fn handle_members(
        &mut self,
        now: Instant,
        relay: &RelayId,
        room: &RoomName,
        members: u32,
    ) -> Option<u32> {
        let row = self.rooms.get_mut(room)?;
        let seat = row.seats.iter_mut().find(|seat| *seat.relay == *relay)?;
        let before = seat.members;
        seat.members = u16::try_from(members).unwrap_or(u16::MAX);
        if seat.members == 0 {
            seat.far_ms = 0;
        }
        if before > 0 && row.seats.iter().all(|seat| seat.members == 0) {
            row.empty_since = now;
        }
        Some(before.into())
    }

    /// A member that joins is that far from a relay of the room.
    pub fn handle_measured(&mut self, room: &RoomName, relay: &RelayId, rtt: Duration) {
        let Some(row) = self.rooms.get_mut(room) else {
            return;
        };
        if let Some(seat) = row.seats.iter_mut().find(|seat| *seat.relay == *relay) {
            seat.far_ms = seat
                .far_ms
                .max(u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX))
                .max(1);
        }
    }

    /// The row is gone from the database for good.
    pub fn forget(&mut self, room: &RoomName) {
        self.rooms.remove(room);
    }

    /// Forgets names that no room has any more. Looks at all names.
    pub fn forget_names(&mut self) {
        self.names.retain(|name| Arc::strong_count(name) > 1);
    }

    /// The lease of a room; without seats if the room was deleted.
    pub fn lease(&self, room: &RoomName) -> Option<Lease> {
        self.rooms.get(room).map(|row| row.lease(room))
    }

    /// The highest epoch known of a room; [`Epoch::NONE`] of one that is not known.
    pub fn epoch(&self, room: &RoomName) -> Epoch {
        self.rooms.get(room).map_or(Epoch::NONE, |row| row.epoch)
    }

    /// Members of the room: the largest number that a relay has, as all members are at all relays of the set.
    pub fn members(&self, room: &RoomName) -> u32 {
        self.rooms.get(room).map_or(0, Row::members)
    }

    /// Members that a relay has in a room, and whether it carries there; `None`: it has no seat.
    pub fn members_at(&self, room: &RoomName, relay: &RelayId) -> Option<(u32, bool)> {
        let seat = self
            .rooms
            .get(room)?
            .seats
            .iter()
            .find(|seat| *seat.relay == *relay)?;
        Some((seat.members.into(), seat.carries))
    }

    /// How far members are from the relays that carry the room, where it is known.
    pub fn far(&self, room: &RoomName) -> Vec<Far> {
        let seats = self.rooms.get(room).into_iter().flat_map(|row| &row.seats);
        let known = seats.filter(|seat| seat.carries && seat.far_ms > 0);
        known
            .map(|seat| Far {
                relay: (*seat.relay).clone(),
                rtt: Duration::from_millis(seat.far_ms.into()),
            })
            .collect()
    }

    /// Rooms in which a relay has a seat, with their members. Looks at every room.
    pub fn rooms_of<'a>(&'a self, relay: &RelayId) -> impl Iterator<Item = (Lease, u32)> + use<'a> {
        let name = self.names.get(relay).cloned();
        let has = move |row: &Row| {
            name.as_ref()
                .is_some_and(|name| row.seats.iter().any(|s| s.relay == *name))
        };
        self.rooms
            .iter()
            .filter(move |(_, row)| has(row))
            .map(|(room, row)| (row.lease(room), row.members()))
    }

    /// Rooms after `after` by name, with their members.
    pub fn rooms(&self, after: Option<&RoomName>) -> impl Iterator<Item = (Lease, u32)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rooms = self.rooms.range::<RoomName, _>((from, Bound::Unbounded));
        rooms.map(|(room, row)| (row.lease(room), row.members()))
    }

    /// Rooms that have been empty for `idle`, or were deleted that long ago.
    pub fn idle(&self, now: Instant, idle: Duration) -> impl Iterator<Item = &RoomName> {
        let is_idle = move |row: &Row| row.members() == 0 && now.duration_since(row.empty_since) >= idle;
        self.rooms
            .iter()
            .filter(move |(_, row)| is_idle(row))
            .map(|(room, _)| room)
    }

    /// Relays that have a seat anywhere, and some that had one.
    pub fn relays(&self) -> impl Iterator<Item = &RelayId> {
        self.names.iter().map(|name| &**name)
    }

    /// Rooms that are known, the deleted ones too.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Row {
    fn lease(&self, room: &RoomName) -> Lease {
        let seat = |seat: &SeatRow| Seat {
            relay: (*seat.relay).clone(),
            carries: seat.carries,
        };
        Lease {
            room: room.clone(),
            epoch: self.epoch,
            seats: self.seats.iter().map(seat).collect(),
        }
    }

    fn members(&self) -> u32 {
        self.seats
            .iter()
            .map(|seat| seat.members.into())
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By arithmetic, for the longest name, one relay that carries and two that stand by, and the emptiest tree.
    #[test]
    fn a_room_takes_at_most_three_hundred_bytes() {
        let of_allocator = 16;
        let slot = size_of::<RoomName>() + size_of::<Row>();
        // A node has at least 5 of 11 slots in use, 16 bytes of its own, and 12 edges if it is not a leaf.
        let leaf = (11 * slot + 16 + of_allocator) / 5;
        let inner = leaf / 5 + 12 * size_of::<usize>() / 25;
        let name = RoomName::MAX_BYTES + of_allocator;
        let seats = 3 * size_of::<SeatRow>() + of_allocator;
        let all = leaf + inner + name + seats;
        assert!(all <= 300, "{leaf} + {inner} + {name} + {seats}");
    }
}
