//! Rooms that several relays of a cluster serve: a member may be connected here, to others, or both, and is one member.

#[cfg(test)]
mod tests;

use wzp_wire::{Instant, RoomName, SenderId};

use super::{Carries, JoinError, Member, Room, Rooms, TrunkId, Via};

/// A relay of the cluster to which a member is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind<P> {
    /// The session with that relay.
    pub trunk: TrunkId,
    /// The connection with it.
    pub port: P,
    /// What stands for the member in the trunks that it sends.
    pub handle: u16,
}

/// Somebody who enters over a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The number in its grant, unique in the room over all relays.
    pub sender: SenderId,
    /// The same at every relay that it is connected to.
    pub announcement: &'a [u8],
    /// It gets its own packets back.
    pub echo: bool,
    /// Whether it hears the room here.
    pub carries: Carries,
}

/// What others have to be told of somebody who entered.
#[derive(Clone, Debug)]
pub struct Change<P> {
    /// Another one with this number, of the same grant, is gone; the handles that it had with other relays mean nobody.
    pub replaced: Option<Member<P>>,
    /// The connection that the same member had here before.
    pub before: Option<P>,
    /// It was not in the room.
    pub came: bool,
}

impl<P> Change<P> {
    const NOTHING: Self = Self {
        replaced: None,
        before: None,
        came: false,
    };
}

impl<P: Clone> Rooms<P> {
    /// Somebody enters over its own connection `port`. Whoever has its number already is the same member if it has the
    /// same announcement, and otherwise an earlier one of the same grant, which is replaced.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has changed then.
    pub fn enter(
        &mut self,
        now: Instant,
        room: &RoomName,
        newcomer: &Newcomer<'_>,
        port: P,
    ) -> Result<Change<P>, JoinError> {
        let Newcomer {
            sender,
            announcement,
            echo,
            carries,
        } = *newcomer;
        let via = Via::Direct(port);
        match self.member(room, sender) {
            Some(same) if *same.announcement == *announcement => {
                let before = same.direct().cloned();
                self.change(now, room, sender, |member| {
                    (member.via, member.echo, member.carries) = (via, echo, carries);
                });
                let change = Change::NOTHING;
                Ok(Change { before, ..change })
            }
            _ => {
                let member = Member {
                    carries,
                    ..Member::new(announcement, echo, via)
                };
                self.replace(now, room, sender, member)
            }
        }
    }

    /// A relay of the cluster tells of a member that is connected to it. Whoever is connected here under its number with
    /// another announcement stays: that one came here itself.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has changed then.
    pub fn bring(
        &mut self,
        now: Instant,
        room: &RoomName,
        sender: SenderId,
        announcement: &[u8],
        behind: Behind<P>,
    ) -> Result<Change<P>, JoinError> {
        match self.member(room, sender) {
            Some(same) if *same.announcement == *announcement => {
                self.change(now, room, sender, |member| {
                    member.peers.retain(|peer| peer.trunk != behind.trunk);
                    member.peers.push(behind);
                });
                Ok(Change::NOTHING)
            }
            Some(other) if other.direct().is_some() => Err(JoinError::AnnouncementInUse),
            _ => {
                let mut member = Member::new(announcement, false, Via::Peers);
                member.peers.push(behind);
                self.replace(now, room, sender, member)
            }
        }
    }

    /// A member's own connection is over. The member, if it is gone: it may be connected to other relays still. `None`
    /// too if there is no such member.
    pub fn exit(&mut self, now: Instant, room: &RoomName, sender: SenderId) -> Option<Member<P>> {
        let member = self.member(room, sender)?;
        if member.peers.is_empty() {
            return self.leave(now, room, sender);
        }
        let handle = member.handle;
        self.change(now, room, sender, |member| {
            (member.via, member.handle) = (Via::Peers, None);
            (member.echo, member.carries) = (false, Carries::Since(Instant::ZERO));
        });
        if let Some(handle) = handle {
            self.handles.give_back(handle);
        }
        None
    }

    /// A relay of the cluster has a member no more, or is lost. The member, if it is gone.
    pub fn take_away(
        &mut self,
        now: Instant,
        room: &RoomName,
        sender: SenderId,
        trunk: TrunkId,
    ) -> Option<Member<P>> {
        let member = self.member(room, sender)?;
        if !member.peers.iter().any(|peer| peer.trunk == trunk) {
            return None;
        }
        if member.direct().is_none() && member.peers.len() == 1 {
            return self.leave(now, room, sender);
        }
        self.change(now, room, sender, |member| {
            member.peers.retain(|peer| peer.trunk != trunk);
        });
        None
    }

    /// A member hears the room here from now on, or only waits here. `false` if there is no such member.
    pub fn carry(&mut self, now: Instant, room: &RoomName, sender: SenderId, here: bool) -> bool {
        let Some(member) = self.member(room, sender) else {
            return false;
        };
        let carries = match (here, member.carries) {
            (true, Carries::Standby) => Carries::Since(now),
            (true, since @ Carries::Since(_)) => since,
            (false, _) => Carries::Standby,
        };
        if carries != member.carries {
            self.change(now, room, sender, |member| member.carries = carries);
        }
        true
    }

    /// The connection that `trunk` was has ended: nothing goes there, and its members stay until
    /// [`take_away`](Self::take_away).
    pub fn cut(&mut self, now: Instant, trunk: TrunkId) {
        for (name, room) in &mut self.rooms {
            if let Some(trunk) = room.trunks.get_mut(&trunk) {
                trunk.is_cut = true;
                self.publications.changed(now, name);
            }
        }
    }

    /// Whether nothing may be forwarded in `room`, because other relays serve it under a newer lease.
    pub fn fence(&mut self, now: Instant, room: &RoomName, is_fenced: bool) {
        if let Some(entry) = self.rooms.get_mut(room)
            && entry.is_fenced != is_fenced
        {
            entry.is_fenced = is_fenced;
            self.publications.changed(now, room);
        }
    }

    /// Members of `room` with a connection to this relay.
    pub fn direct_count(&self, room: &RoomName) -> usize {
        let members = self.members(room);
        members.filter(|(_, member)| member.direct().is_some()).count()
    }

    /// Puts `member` where another one may be.
    fn replace(
        &mut self,
        now: Instant,
        room: &RoomName,
        sender: SenderId,
        member: Member<P>,
    ) -> Result<Change<P>, JoinError> {
        match self.rooms.get(room) {
            None if self.rooms.len() >= self.config.rooms => return Err(JoinError::TooManyRooms),
            None => {}
            Some(entry) => {
                let place = usize::from(entry.members.contains_key(&sender));
                entry.takes(self.config.members + place, &member.announcement)?;
            }
        }
        let replaced = self.leave(now, room, sender);
        let loudest = self.config.speakers.loudest;
        let entry = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Room::new(loudest));
        entry.insert(sender, member);
        entry.hand_out(room, &mut self.handles);
        self.members += 1;
        self.publications.changed(now, room);
        Ok(Change {
            before: replaced.as_ref().and_then(|member| member.direct().cloned()),
            replaced,
            came: true,
        })
    }

    /// Changes somebody who is there.
    fn change(
        &mut self,
        now: Instant,
        room: &RoomName,
        sender: SenderId,
        change: impl FnOnce(&mut Member<P>),
    ) {
        let Some(entry) = self.rooms.get_mut(room) else {
            return;
        };
        // A trunk without members is forgotten, and this member may be the last one of one that is cut.
        let cut = entry.trunks.iter().filter(|(_, trunk)| trunk.is_cut);
        let cut: Vec<_> = cut.map(|(&id, _)| id).collect();
        let Some(mut member) = entry.remove(sender) else {
            return;
        };
        change(&mut member);
        entry.insert(sender, member);
        for id in cut {
            if let Some(trunk) = entry.trunks.get_mut(&id) {
                trunk.is_cut = true;
            }
        }
        entry.hand_out(room, &mut self.handles);
        self.publications.changed(now, room);
    }
}
