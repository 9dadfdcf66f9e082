//! Members who are behind trunks.

use wzp_wire::{RoomName, SenderId};

use super::{Rooms, TrunkId, Via};
use crate::trunk::{Side, Whole};

/// Whom a handle stands for under which the other relay tells of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// The same one, who has been told of before.
    Same,
    /// One who is gone, although nobody has said so: upstream, the handle has been given to another since.
    Gone,
    /// Another, who is still there: it is the downstream relay that gives out the handle, and it has not taken it back.
    There,
}

impl<P: Clone> Rooms<P> {
    /// Whether `trunk` has members in `room`.
    pub fn has_trunk(&self, room: &RoomName, trunk: TrunkId) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|room| room.trunks.contains_key(&trunk))
    }

    /// Everybody behind `trunk`, to be taken out when it is lost.
    pub fn behind(&self, trunk: TrunkId) -> Vec<(RoomName, SenderId)> {
        let with_trunk = self
            .rooms
            .iter()
            .filter(|(_, room)| room.trunks.contains_key(&trunk));
        let members = with_trunk.flat_map(|(name, room)| room.members.iter().map(move |entry| (name, entry)));
        let behind = members.filter(|(_, (_, member))| member.trunks().any(|(id, _)| id == trunk));
        behind
            .map(|(name, (&sender, _))| (name.clone(), sender))
            .collect()
    }

    /// Whom in the room of `whole` the relay that sent it over `trunk` does not know any more: to be taken out.
    ///
    /// Members behind other trunks are there from earlier sessions with that relay. Whoever it has named came over to
    /// this trunk when it did.
    pub fn missing(&self, trunk: TrunkId, whole: &Whole) -> Vec<SenderId> {
        let missing = self.members(whole.room()).filter(|(_, member)| match member.via {
            Via::Direct(_) | Via::Peers => false,
            Via::Trunk { id, handle, .. } => id != trunk || !whole.names(handle),
        });
        missing.map(|(sender, _)| sender).collect()
    }

    /// Whom the handle of `(room, sender)` stands for, now that the other relay tells under it of somebody in
    /// `told_of` with `announcement`.
    pub fn bearer(
        &self,
        (room, sender): (&RoomName, SenderId),
        told_of: &RoomName,
        announcement: &[u8],
    ) -> Bearer {
        let member = self.member(room, sender).filter(|_| room == told_of);
        match self.config.side {
            Side::Upstream => Bearer::There,
            Side::Downstream if member.is_some_and(|member| *member.announcement == *announcement) => {
                Bearer::Same
            }
            Side::Downstream => Bearer::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rooms::{
            Config, Member,
            tests::{NOW, Seeded, room},
        },
        trunk::whole,
    };

    const OLD: TrunkId = TrunkId(5);
    const NEW: TrunkId = TrunkId(6);

    fn via(id: TrunkId, handle: u16) -> Via<u32> {
        Via::Trunk { id, port: 9, handle }
    }

    fn rooms(side: Side) -> Rooms<u32> {
        let config = Config {
            side,
            ..Config::default()
        };
        Rooms::new(config)
    }

    fn join(rooms: &mut Rooms<u32>, name: &str, announcement: &str, via: Via<u32>) -> SenderId {
        let member = Member::new(announcement.as_bytes(), false, via);
        rooms
            .join(NOW, &mut Seeded(1), &room(name), None, member)
            .unwrap()
    }

    #[test]
    fn whoever_is_not_in_a_whole_list_is_missing_and_nobody_else() {
        let mut rooms = rooms(Side::Downstream);
        join(&mut rooms, "a", "ours", Via::Direct(1));
        join(&mut rooms, "a", "listed", via(NEW, 0x8001));
        let gone = join(&mut rooms, "a", "gone", via(NEW, 0x8002));
        join(&mut rooms, "b", "in another room", via(NEW, 0x8003));
        let whole = whole("a", [0x8001, 0x8004]);
        assert_eq!(rooms.missing(NEW, &whole), [gone]);
        rooms.leave(NOW, &room("a"), gone);
        assert_eq!(rooms.missing(NEW, &whole), []);
    }

    #[test]
    fn of_those_behind_a_lost_trunk_whoever_has_not_come_over_to_the_new_one_is_missing() {
        let mut rooms = rooms(Side::Downstream);
        join(&mut rooms, "a", "ours", Via::Direct(1));
        let stays = join(&mut rooms, "a", "stays", via(OLD, 0x8001));
        // Its old handle is another member's now.
        let gone = join(&mut rooms, "a", "gone", via(OLD, 0x8002));
        assert!(rooms.rebind(NOW, &room("a"), stays, via(NEW, 0x8002)));
        assert_eq!(rooms.missing(NEW, &whole("a", [0x8002])), [gone]);
    }

    #[test]
    fn a_handle_under_which_another_is_told_of_stands_for_somebody_who_is_gone() {
        let (here, there) = (room("a"), room("b"));
        for (side, same, other) in [
            (Side::Downstream, Bearer::Same, Bearer::Gone),
            (Side::Upstream, Bearer::There, Bearer::There),
        ] {
            let mut rooms = rooms(side);
            let sender = join(&mut rooms, "a", "first", via(NEW, 1));
            let bearer = |room: &RoomName, announcement: &str| {
                rooms.bearer((&here, sender), room, announcement.as_bytes())
            };
            assert_eq!(bearer(&here, "first"), same);
            assert_eq!(bearer(&here, "second"), other);
            assert_eq!(bearer(&there, "first"), other);
        }
    }
}
