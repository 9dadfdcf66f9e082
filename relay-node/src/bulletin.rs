//! What every replica of the control plane has to hear of, kept per stream until it is its turn.
//!
//! Only what changed is remembered, not how often: a stream that is slow, or comes back, is told how things are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;
use wzp_wire::{RelayId, RoomName};

/// News that wait for one stream; older ones go.
const MOST_NEWS: usize = 256;

/// For all streams.
#[derive(Debug, Default)]
pub(crate) struct Bulletin(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    feeds: Vec<Weak<Feed>>,
    people: BTreeMap<[u8; 16], Person>,
}

/// Somebody with connections to this relay.
#[derive(Debug, Default)]
struct Person {
    connections: usize,
    room: Option<RoomName>,
}

/// What one stream has not been told.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    waiting: Mutex<Waiting>,
    more: Notify,
}

/// To be told.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Whose state has changed.
    pub(crate) rooms: BTreeSet<RoomName>,
    /// As above.
    pub(crate) people: BTreeSet<[u8; 16]>,
    /// In this order.
    pub(crate) news: VecDeque<News>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A peer does not answer.
    PeerDown {
        relay: RelayId,
        boot: [u8; 8],
        silent: Duration,
    },
    /// This relay wants to stop.
    Drain(Duration),
    /// What this relay shows or where it is reached has changed: the stream is made anew.
    Reintroduce,
}

/// How somebody is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) online: bool,
    pub(crate) room: Option<RoomName>,
}

impl Bulletin {
    /// A stream that is to be told everything: `rooms` and everybody who is there.
    pub(crate) fn subscribe(&self, rooms: BTreeSet<RoomName>) -> Arc<Feed> {
        let mut board = self.board();
        let feed = Arc::new(Feed {
            waiting: Mutex::new(Waiting {
                rooms,
                people: board.people.keys().copied().collect(),
                news: VecDeque::new(),
            }),
            more: Notify::new(),
        });
        board.feeds.retain(|feed| feed.strong_count() > 0);
        board.feeds.push(Arc::downgrade(&feed));
        feed
    }

    pub(crate) fn room_changed(&self, room: &RoomName) {
        self.board().tell(|waiting| {
            if !waiting.rooms.contains(room) {
                waiting.rooms.insert(room.clone());
            }
        });
    }

    pub(crate) fn news(&self, news: &News) {
        self.board().tell(|waiting| {
            if waiting.news.len() >= MOST_NEWS {
                waiting.news.pop_front();
            }
            waiting.news.push_back(news.clone());
        });
    }

    /// Somebody has one more connection.
    pub(crate) fn came(&self, person: [u8; 16]) {
        let mut board = self.board();
        board.people.entry(person).or_default().connections += 1;
        board.person_changed(person);
    }

    /// Somebody has one connection less.
    pub(crate) fn went(&self, person: [u8; 16]) {
        let mut board = self.board();
        let Some(there) = board.people.get_mut(&person) else {
            return;
        };
        there.connections = there.connections.saturating_sub(1);
        if there.connections == 0 {
            board.people.remove(&person);
        }
        board.person_changed(person);
    }

    /// Somebody entered a room, or left it.
    pub(crate) fn is_in(&self, person: [u8; 16], room: Option<&RoomName>) {
        let mut board = self.board();
        if let Some(there) = board.people.get_mut(&person) {
            there.room = room.cloned();
            board.person_changed(person);
        }
    }

    pub(crate) fn presence(&self, person: &[u8; 16]) -> Presence {
        let board = self.board();
        let there = board.people.get(person);
        Presence {
            online: there.is_some(),
            room: there.and_then(|there| there.room.clone()),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn tell(&self, add: impl Fn(&mut Waiting)) {
        for feed in self.feeds.iter().filter_map(Weak::upgrade) {
            add(&mut feed.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            feed.more.notify_one();
        }
    }

    fn person_changed(&self, person: [u8; 16]) {
        self.tell(|waiting| {
            waiting.people.insert(person);
        });
    }
}

impl Feed {
    /// Everything that waits, once there is something. Cancel-safe.
    pub(crate) async fn next(&self) -> Waiting {
        loop {
            let waiting = self.take();
            if !waiting.is_empty() {
                return waiting;
            }
            self.more.notified().await;
        }
    }

    /// Everything that waits.
    pub(crate) fn take(&self) -> Waiting {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.people.is_empty() && self.news.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).unwrap()
    }

    #[test]
    fn a_stream_hears_everything_once_and_then_what_changed() {
        let bulletin = Bulletin::default();
        bulletin.came([1; 16]);
        let feed = bulletin.subscribe([room("a")].into());
        let first = feed.take();
        assert_eq!((first.rooms.len(), first.people.len()), (1, 1));
        assert!(feed.take().is_empty());
        bulletin.room_changed(&room("b"));
        bulletin.room_changed(&room("b"));
        bulletin.is_in([1; 16], Some(&room("b")));
        let next = feed.take();
        assert_eq!((next.rooms, next.people.len()), ([room("b")].into(), 1));
        for _ in 0..2 * MOST_NEWS {
            bulletin.news(&News::Reintroduce);
        }
        assert_eq!(feed.take().news.len(), MOST_NEWS);
    }

    #[test]
    fn somebody_is_there_until_the_last_connection_ends() {
        let (bulletin, person) = (Bulletin::default(), [2; 16]);
        bulletin.came(person);
        bulletin.came(person);
        bulletin.is_in(person, Some(&room("a")));
        bulletin.went(person);
        assert!(bulletin.presence(&person).online);
        assert_eq!(bulletin.presence(&person).room, Some(room("a")));
        bulletin.went(person);
        let gone = Presence {
            online: false,
            room: None,
        };
        assert_eq!(bulletin.presence(&person), gone);
        bulletin.went(person);
        bulletin.is_in(person, None);
        assert_eq!(bulletin.presence(&person), gone);
    }
}
