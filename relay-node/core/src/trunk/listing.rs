//! Who is in a room, as an upstream relay lists it to a downstream one in the parts of its answer to a join.

use std::collections::BTreeSet;

use wzp_wire::{RoomName, signal::TrunkJoined};

/// Gathers the parts of one list, which come one after the other; what comes between them interrupts it.
///
/// What it holds is bounded by the handles that there are, 32,768 of either relay, however much the other one says.
#[derive(Debug, Default)]
pub struct Listing {
    begun: Option<Begun>,
    /// What answers these joins were interrupted. More parts of them may come, and are not taken for whole lists.
    interrupted: BTreeSet<u16>,
    told: Option<Whole>,
}

/// A list of which more is to come.
#[derive(Debug)]
struct Begun {
    /// Of our member whose join it answers.
    handle: u16,
    room: RoomName,
    named: BTreeSet<u16>,
    is_whole: bool,
}

/// Everybody in a room who is not the downstream relay's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    room: RoomName,
    named: BTreeSet<u16>,
}

impl Listing {
    /// A part has come; `room` is the one that the member is in whose join it answers, if that member is still there.
    /// Returns the room of those in the part: that member may leave before the last one comes.
    pub fn handle_part(&mut self, part: &TrunkJoined, room: Option<RoomName>) -> Option<RoomName> {
        if self
            .begun
            .as_ref()
            .is_some_and(|begun| begun.handle != part.handle)
        {
            self.handle_other();
        }
        self.told = None;
        let was_interrupted = if part.more {
            self.interrupted.contains(&part.handle)
        } else {
            self.interrupted.remove(&part.handle)
        };
        let begun = self.begun.take().or_else(|| {
            Some(Begun {
                handle: part.handle,
                room: room?,
                named: BTreeSet::new(),
                is_whole: !was_interrupted,
            })
        });
        let Some(mut begun) = begun else {
            if part.more {
                self.interrupted.insert(part.handle);
            }
            return None;
        };
        begun.is_whole &= part.whole;
        begun
            .named
            .extend(part.members.iter().map(|member| member.handle));
        let room = begun.room.clone();
        if part.more {
            self.begun = Some(begun);
        } else if begun.is_whole {
            let Begun { room, named, .. } = begun;
            self.told = Some(Whole { room, named });
        }
        Some(room)
    }

    /// Something else has come: of a list that was being told, nothing is believed about who is not in it.
    pub fn handle_other(&mut self) {
        self.told = None;
        if let Some(begun) = self.begun.take() {
            self.interrupted.insert(begun.handle);
        }
    }

    /// Once the last part of a whole list has come, and those in it have come in: that list.
    pub fn poll_whole(&mut self) -> Option<Whole> {
        self.told.take()
    }
}

impl Whole {
    /// Where they are.
    pub fn room(&self) -> &RoomName {
        &self.room
    }

    /// Whether `handle`, one of the upstream relay, stands for one of them.
    pub fn names(&self, handle: u16) -> bool {
        self.named.contains(&handle)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use wzp_wire::{
        SenderId,
        signal::{Blob, TrunkMember},
    };

    use super::*;

    fn room(name: &str) -> Option<RoomName> {
        Some(RoomName::parse(name).unwrap())
    }

    fn part(handle: u16, members: impl IntoIterator<Item = u16>) -> TrunkJoined {
        let member = |handle| TrunkMember {
            handle,
            sender: SenderId::new(5).unwrap(),
            announcement: Blob::new(vec![1]).unwrap(),
        };
        TrunkJoined {
            handle,
            sender: SenderId::new(4).unwrap(),
            members: members.into_iter().map(member).collect(),
            more: false,
            whole: true,
        }
    }

    fn more(part: TrunkJoined) -> TrunkJoined {
        TrunkJoined { more: true, ..part }
    }

    fn partial(part: TrunkJoined) -> TrunkJoined {
        TrunkJoined { whole: false, ..part }
    }

    pub(crate) fn whole(name: &str, named: impl IntoIterator<Item = u16>) -> Whole {
        let (named, room) = (named.into_iter().collect(), RoomName::parse(name).unwrap());
        Whole { room, named }
    }

    #[test]
    fn a_list_is_whole_with_its_last_part_also_when_whom_it_answers_has_left() {
        let mut listing = Listing::default();
        let first = more(part(1, [0x8001, 0x8002]));
        assert_eq!(listing.handle_part(&first, room("a")), room("a"));
        assert_eq!(listing.poll_whole(), None);
        assert_eq!(listing.handle_part(&more(part(1, [])), None), room("a"));
        assert_eq!(listing.handle_part(&part(1, [0x8003]), None), room("a"));
        let told = listing.poll_whole();
        assert_eq!(told, Some(whole("a", [0x8001, 0x8002, 0x8003])));
        assert!(told.is_some_and(|told| told.names(0x8002) && !told.names(0x8004)));
        assert_eq!(listing.poll_whole(), None);
        // The next begins with nobody.
        listing.handle_part(&part(1, []), room("b"));
        assert_eq!(listing.poll_whole(), Some(whole("b", [])));
    }

    #[test]
    fn a_list_that_does_not_say_in_every_part_that_it_is_whole_is_not() {
        let mut listing = Listing::default();
        for parts in [
            vec![partial(part(1, [0x8001]))],
            vec![more(part(1, [0x8001])), partial(part(1, []))],
            vec![more(partial(part(1, [0x8001]))), part(1, [])],
        ] {
            for part in parts {
                assert_eq!(listing.handle_part(&part, room("a")), room("a"));
            }
            assert_eq!(listing.poll_whole(), None);
        }
    }

    #[test]
    fn a_list_that_is_interrupted_is_forgotten_and_its_rest_is_no_list() {
        let mut listing = Listing::default();
        listing.handle_part(&more(part(1, [0x8001])), room("a"));
        listing.handle_part(&more(part(2, [0x8002])), room("b"));
        listing.handle_other();
        for (handle, name) in [(1, "a"), (2, "b")] {
            let rest = part(handle, [0x8003]);
            assert_eq!(listing.handle_part(&more(rest.clone()), room(name)), room(name));
            assert_eq!(listing.handle_part(&rest, None), room(name));
            assert_eq!(listing.poll_whole(), None);
            // After its end, the next is one again.
            listing.handle_part(&rest, room(name));
            assert_eq!(listing.poll_whole(), Some(whole(name, [0x8003])));
        }
    }

    #[test]
    fn nobody_is_in_a_list_that_answers_somebody_who_has_left() {
        let mut listing = Listing::default();
        for (part, room_of) in [
            (part(1, [0x8001]), None),
            (more(part(1, [0x8001])), None),
            // Another member, whom our relay has given the same handle.
            (part(1, [0x8002]), room("b")),
        ] {
            assert_eq!(listing.handle_part(&part, room_of.clone()), room_of);
            assert_eq!(listing.poll_whole(), None);
        }
    }

    #[test]
    fn lists_without_an_end_take_no_more_than_all_handles() {
        let mut listing = Listing::default();
        for handle in 0..0x8000 {
            listing.handle_part(&more(part(handle, [])), room("a"));
        }
        for _ in 0..3 {
            listing.handle_part(&more(part(1, 0x8000..=0xffff)), room("a"));
        }
        let held = listing.begun.map(|begun| begun.named.len());
        assert_eq!((held, listing.interrupted.len()), (Some(32_768), 32_768));
    }
}
