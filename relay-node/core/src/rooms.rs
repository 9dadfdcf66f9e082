//! Membership: who is in which room, under which number, and when the packet loops are told.
//!
//! The shell calls [`Rooms::join`] and [`Rooms::leave`], tells the others by signalling
//! ([`Rooms::outlets`]), and publishes what [`Rooms::poll_publish`] gives at [`Rooms::poll_timeout`].

mod cluster;
mod publish;
#[cfg(test)]
mod tests;
mod trunks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rand_core::Rng;
use wzp_wire::{Instant, RoomName, SenderId};

use crate::{
    FanOut, Outlet, To,
    fanout::{Bounds, Source},
    limits::{Bucket, Rate},
    speakers::{self, Speakers},
    trunk::{Handles, Side},
};
pub use cluster::{Behind, Change, Newcomer};
use publish::Publications;
#[cfg(test)]
pub(crate) use tests::Seeded;
pub use trunks::Bearer;

/// For so long standby members hear somebody who has begun to carry here: whoever moves to this relay sends to both it
/// and the one it leaves for less than that.
pub const FRESH: Duration = Duration::from_secs(2);

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rooms at once. Default 10,000.
    pub rooms: usize,
    /// Members of one room, 1 to 10,000. Default 1,000.
    pub members: usize,
    /// How often anybody may come into one room, with all its members at once three times in a row: everybody there is
    /// told of each. Default 20 a second, 3,000 at once.
    pub joins: Rate,
    /// When only the loudest are forwarded.
    pub speakers: speakers::Config,
    /// The side of this relay in its trunks.
    pub side: Side,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            members: 1_000,
            joins: Self::joins(1_000),
            speakers: speakers::Config::default(),
            side: Side::Upstream,
        }
    }
}

impl Config {
    /// As many joins as rooms of so many members need.
    pub fn joins(members: u16) -> Rate {
        let members = u32::from(members);
        Rate::new((members / 50).max(10), (members * 3).max(100))
    }
}

/// Tells trunks apart: the number of the session that carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub u64);

/// How a member is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via<P> {
    /// Its own connection to this relay.
    Direct(P),
    /// Another relay.
    Trunk {
        /// The session with that relay.
        id: TrunkId,
        /// The connection with it.
        port: P,
        /// What stands for the member in the trunks that the other relay sends.
        handle: u16,
    },
    /// Only relays of the same cluster: [`Member::peers`].
    Peers,
}

/// Whether a member with its own connection hears the room over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// It does, since then.
    Since(Instant),
    /// It hears the room through another relay, and only waits here.
    Standby,
}

/// Somebody in a room.
#[derive(Clone, Debug)]
pub struct Member<P> {
    /// Opaque to the relay; what the others verify it by.
    pub announcement: Arc<[u8]>,
    /// It gets its own packets back.
    pub echo: bool,
    /// How it is reached.
    pub via: Via<P>,
    /// What stands for it in the trunks this relay sends; there as soon as there is such a trunk.
    pub handle: Option<u16>,
    /// Whether it hears the room over its own connection, if it has one.
    pub carries: Carries,
    /// The relays of the same cluster that it is connected to as well.
    pub peers: Vec<Behind<P>>,
}

impl<P> Member<P> {
    /// Somebody new, without a handle.
    pub fn new(announcement: &[u8], echo: bool, via: Via<P>) -> Self {
        Self {
            announcement: announcement.into(),
            echo,
            via,
            handle: None,
            carries: Carries::Since(Instant::ZERO),
            peers: Vec::new(),
        }
    }

    /// The trunk through which it is reached.
    pub fn trunk(&self) -> Option<TrunkId> {
        match self.via {
            Via::Direct(_) | Via::Peers => None,
            Via::Trunk { id, .. } => Some(id),
        }
    }

    /// Its own connection.
    pub fn direct(&self) -> Option<&P> {
        match &self.via {
            Via::Direct(port) => Some(port),
            Via::Trunk { .. } | Via::Peers => None,
        }
    }

    /// Every trunk behind which it is, with the connection that carries it.
    fn trunks(&self) -> impl Iterator<Item = (TrunkId, &P)> {
        let forwarded = match &self.via {
            Via::Trunk { id, port, .. } => Some((*id, port)),
            Via::Direct(_) | Via::Peers => None,
        };
        let peers = self.peers.iter().map(|peer| (peer.trunk, &peer.port));
        forwarded.into_iter().chain(peers)
    }

    fn hears_here(&self) -> bool {
        self.direct().is_some() && self.carries != Carries::Standby
    }

    fn fresh_until(&self) -> Instant {
        match self.carries {
            Carries::Since(since) => since + FRESH,
            Carries::Standby => Instant::from_micros(u64::MAX),
        }
    }
}

/// Why somebody cannot come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// [`Config::rooms`] are there already.
    #[error("relay has no place for another room")]
    TooManyRooms,
    /// [`Config::members`] are there already.
    #[error("room is full")]
    RoomFull,
    /// A member has the same announcement, which is good for one join.
    #[error("a member of the room has this announcement already")]
    AnnouncementInUse,
    /// [`Config::joins`] have come into this room; so long until the next may.
    #[error("too many joins a second into this room")]
    TooManyJoins(Duration),
}

/// Of somebody who is behind peers only: rooms are limited to far fewer outlets.
const NO_OUTLET: u16 = u16::MAX;

/// All rooms of a relay.
#[derive(Debug)]
pub struct Rooms<P> {
    config: Config,
    rooms: BTreeMap<RoomName, Room<P>>,
    handles: Handles<(RoomName, SenderId)>,
    publications: Publications,
    members: usize,
}

#[derive(Debug)]
struct Room<P> {
    members: BTreeMap<SenderId, Member<P>>,
    trunks: BTreeMap<TrunkId, Trunk<P>>,
    /// Of everybody, none of them twice.
    announcements: BTreeSet<Arc<[u8]>>,
    joins: Bucket,
    speakers: Arc<Speakers>,
    is_fenced: bool,
}

#[derive(Debug)]
struct Trunk<P> {
    port: P,
    members: usize,
    /// Its connection has ended; its members may come back with another one.
    is_cut: bool,
}

impl<P: Clone> Rooms<P> {
    /// No rooms yet.
    pub fn new(config: Config) -> Self {
        Self {
            rooms: BTreeMap::new(),
            handles: Handles::new(config.side),
            publications: Publications::default(),
            members: 0,
            config,
        }
    }

    /// Whether somebody with this announcement may come into `room` now; takes the join from what the room has.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has been taken then.
    pub fn admit(&mut self, now: Instant, room: &RoomName, announcement: &[u8]) -> Result<(), JoinError> {
        let Config { joins, members, .. } = self.config;
        let Some(entry) = self.rooms.get_mut(room) else {
            return Ok(());
        };
        entry.takes(members, announcement)?;
        entry.joins.take(joins, now, 1).map_err(JoinError::TooManyJoins)
    }

    /// Puts `member` into `room` and returns its number: `preferred` if that is free, else a random free one.
    ///
    /// # Errors
    /// [`JoinError`]; nothing has changed then.
    pub fn join<R: Rng + ?Sized>(
        &mut self,
        now: Instant,
        rng: &mut R,
        room: &RoomName,
        preferred: Option<SenderId>,
        member: Member<P>,
    ) -> Result<SenderId, JoinError> {
        if !self.rooms.contains_key(room) && self.rooms.len() >= self.config.rooms {
            return Err(JoinError::TooManyRooms);
        }
        if let Some(entry) = self.rooms.get(room) {
            entry.takes(self.config.members, &member.announcement)?;
        }
        let loudest = self.config.speakers.loudest;
        let entry = self
            .rooms
            .entry(room.clone())
            .or_insert_with(|| Room::new(loudest));
        let sender = entry.free_sender(rng, preferred);
        entry.insert(sender, member);
        entry.hand_out(room, &mut self.handles);
        self.members += 1;
        self.publications.changed(now, room);
        Ok(sender)
    }

    /// Takes a member out, and the room with the last one. `None` if there is no such member.
    pub fn leave(&mut self, now: Instant, room: &RoomName, sender: SenderId) -> Option<Member<P>> {
        let entry = self.rooms.get_mut(room)?;
        let member = entry.remove(sender)?;
        if entry.members.is_empty() {
            self.rooms.remove(room);
        }
        if let Some(handle) = member.handle {
            self.handles.give_back(handle);
        }
        self.members -= 1;
        self.publications.changed(now, room);
        Some(member)
    }

    /// A member is reached another way from now on and stays who it is. `false` if there is no such member.
    pub fn rebind(&mut self, now: Instant, room: &RoomName, sender: SenderId, via: Via<P>) -> bool {
        let Some(entry) = self.rooms.get_mut(room) else {
            return false;
        };
        let Some(member) = entry.remove(sender) else {
            return false;
        };
        entry.insert(sender, Member { via, ..member });
        entry.hand_out(room, &mut self.handles);
        self.publications.changed(now, room);
        true
    }

    /// The next room whose snapshot is due, and the snapshot; empty when the room is gone.
    pub fn poll_publish(&mut self, now: Instant) -> Option<(RoomName, FanOut<P>)> {
        let name = self.publications.poll(now)?;
        let above = self.config.speakers.above;
        let fan_out = self
            .rooms
            .get(&name)
            .map_or_else(FanOut::empty, |room| room.fan_out(above));
        Some((name, fan_out))
    }

    /// When [`Self::poll_publish`] has something next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.publications.due()
    }

    /// One member.
    pub fn member(&self, room: &RoomName, sender: SenderId) -> Option<&Member<P>> {
        self.rooms.get(room)?.members.get(&sender)
    }

    /// The member that `handle`, one of ours, stands for.
    pub fn of_handle(&self, handle: u16) -> Option<&(RoomName, SenderId)> {
        self.handles.find(handle)
    }

    /// The members of a room in the order of their numbers; none if there is no such room.
    pub fn members(&self, room: &RoomName) -> impl Iterator<Item = (SenderId, &Member<P>)> {
        let members = self.rooms.get(room).into_iter().flat_map(|room| &room.members);
        members.map(|(&sender, member)| (sender, member))
    }

    /// Every place at which news of a room have to be told, once each.
    pub fn outlets(&self, room: &RoomName) -> impl Iterator<Item = Outlet<P>> {
        self.rooms.get(room).into_iter().flat_map(Room::outlets)
    }

    /// How many rooms there are.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// How many members there are in all rooms together.
    pub fn member_count(&self) -> usize {
        self.members
    }
}

impl<P: Clone> Room<P> {
    fn new(loudest: usize) -> Self {
        Self {
            members: BTreeMap::new(),
            trunks: BTreeMap::new(),
            announcements: BTreeSet::new(),
            joins: Bucket::default(),
            speakers: Arc::new(Speakers::new(loudest)),
            is_fenced: false,
        }
    }

    /// Whether there is a place for one more of `members`, and nobody with this announcement.
    fn takes(&self, members: usize, announcement: &[u8]) -> Result<(), JoinError> {
        if self.members.len() >= members {
            return Err(JoinError::RoomFull);
        }
        if self.announcements.contains(announcement) {
            return Err(JoinError::AnnouncementInUse);
        }
        Ok(())
    }

    /// A room is far smaller than the number of ids, so that a few draws find a free one.
    fn free_sender<R: Rng + ?Sized>(&self, rng: &mut R, preferred: Option<SenderId>) -> SenderId {
        let free = |sender: &SenderId| !self.members.contains_key(sender);
        if let Some(sender) = preferred.filter(free) {
            return sender;
        }
        loop {
            let [low, high, ..] = rng.next_u32().to_le_bytes();
            if let Some(sender) = SenderId::new(u16::from_le_bytes([low, high])).filter(free) {
                return sender;
            }
        }
    }

    fn insert(&mut self, sender: SenderId, member: Member<P>) {
        for (id, port) in member.trunks() {
            let new = || Trunk {
                port: port.clone(),
                members: 0,
                is_cut: false,
            };
            self.trunks.entry(id).or_insert_with(new).members += 1;
        }
        self.announcements.insert(Arc::clone(&member.announcement));
        self.members.insert(sender, member);
    }

    fn remove(&mut self, sender: SenderId) -> Option<Member<P>> {
        let member = self.members.remove(&sender)?;
        self.announcements.remove(&member.announcement);
        for (id, _) in member.trunks() {
            if let Some(trunk) = self.trunks.get_mut(&id) {
                trunk.members -= 1;
                if trunk.members == 0 {
                    self.trunks.remove(&id);
                }
            }
        }
        Some(member)
    }

    /// Downstream, every member of ours will be told to the upstream; upstream, everybody is told to every trunk.
    fn hand_out(&mut self, room: &RoomName, handles: &mut Handles<(RoomName, SenderId)>) {
        let side = handles.side();
        if side == Side::Upstream && self.trunks.is_empty() {
            return;
        }
        for (&sender, member) in &mut self.members {
            let told = side == Side::Upstream || member.direct().is_some();
            if told && member.handle.is_none() {
                member.handle = handles.take((room.clone(), sender));
            }
        }
    }

    fn outlets(&self) -> impl Iterator<Item = Outlet<P>> {
        let carrying = self.members.iter().filter(|(_, member)| member.hears_here());
        let standby = self.members.iter().filter(|(_, member)| !member.hears_here());
        let direct = carrying.chain(standby).filter_map(|(&sender, member)| {
            Some(Outlet {
                port: member.direct()?.clone(),
                to: To::Member(sender),
            })
        });
        let trunks = self.trunks.iter().filter(|(_, trunk)| !trunk.is_cut);
        let trunks = trunks.map(|(&id, trunk)| Outlet {
            port: trunk.port.clone(),
            to: To::Trunk(id),
        });
        direct.chain(trunks)
    }

    fn fan_out(&self, above: usize) -> FanOut<P> {
        let outlets: Vec<_> = self.outlets().collect();
        let places = outlets.iter().zip(0..).map(|(outlet, index)| (outlet.to, index));
        let places: BTreeMap<To, u16> = places.collect();
        let sources = self.members.iter().filter_map(|(&sender, member)| {
            let to = member.trunk().map_or(To::Member(sender), To::Trunk);
            Some(Source {
                sender,
                outlet: match member.via {
                    Via::Peers => NO_OUTLET,
                    Via::Direct(_) | Via::Trunk { .. } => *places.get(&to)?,
                },
                echo: member.echo && member.direct().is_some(),
                handle: member.handle,
                fresh_until: member.fresh_until(),
            })
        });
        let of = |is_counted: fn(&Member<P>) -> bool| {
            let counted = self.members.values().filter(|member| is_counted(member)).count();
            u16::try_from(counted).unwrap_or(u16::MAX)
        };
        let bounds = Bounds {
            carrying: of(Member::hears_here),
            direct: of(|member| member.direct().is_some()),
        };
        let is_large = self.members.len() > above;
        let speakers = Arc::clone(&self.speakers);
        let fan_out = FanOut::new(sources.collect(), outlets, bounds, speakers, is_large);
        if self.is_fenced { fan_out.fenced() } else { fan_out }
    }
}
