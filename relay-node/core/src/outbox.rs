//! What waits to be told to one connection, and how much of it may wait.
//!
//! Nobody decides how much another has to read: answers of the relay are for what the reader asked, messages of others
//! are lost beyond a share, and of those who came and went, whoever left before it was told of is not told of at all.
//! So what waits is bounded by the room, whatever happens in it.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use wzp_wire::Instant;

/// What an item costs beside its bytes: its place here, and its part of the tree.
const OVERHEAD: usize = 128;
/// Messages of other members that may wait, and their bytes. What is beyond that is lost, and costs the reader nothing
/// else: it is not the reader who decides how much others send.
pub const PEER_MESSAGES: usize = 4_096;
/// See [`PEER_MESSAGES`].
pub const PEER_BYTES: usize = 512 << 10;

/// The part of that which one sender may have: who floods a member takes no place from others.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// For a member, whom another one has little to say to at once.
    Member = 8,
    /// For a relay, with many members behind it to whom a newcomer has something to say.
    Relay = 2,
}

/// How much of the relay's own answers may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Messages.
    pub messages: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Who is in a room, told in parts as the reader takes them.
pub trait List {
    /// As much of it as fits into one message.
    type Part;
    /// The next part, which may be empty; there is one at least.
    fn next_part(&mut self) -> Self::Part;
    /// Whether the last part has been taken.
    fn is_told(&self) -> bool;
    /// What it takes in memory.
    fn bytes(&self) -> usize;
    /// The rest is of no interest any more: one empty part is left.
    fn shorten(&mut self);
}

/// What is to be written next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<F, P> {
    /// A message.
    Frame(F),
    /// A part of a list.
    Part(P),
}

/// More waits than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The queue of one connection, in the order in which things happened.
#[derive(Debug)]
pub struct Queue<F, L> {
    config: Config,
    items: BTreeMap<u64, Item<F, L>>,
    next: u64,
    /// Where those who came, and have not been told of, stand.
    came: BTreeMap<u16, u64>,
    own: Waiting,
    peers: Peers,
    bytes: usize,
    moved: Instant,
}

#[derive(Debug)]
struct Item<F, L> {
    what: What<F, L>,
    bytes: usize,
}

#[derive(Debug)]
enum What<F, L> {
    Own(F),
    Peer(u16, F),
    Came(u16, F),
    Left(F),
    List(L),
}

impl<F: AsRef<[u8]>, L: List> Queue<F, L> {
    /// Nothing waits.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            items: BTreeMap::new(),
            next: 0,
            came: BTreeMap::new(),
            own: Waiting::default(),
            peers: Peers::default(),
            bytes: 0,
            moved: Instant::ZERO,
        }
    }

    /// Queues an answer of the relay's own.
    ///
    /// # Errors
    /// [`Full`]: the reader asks and does not read.
    pub fn push(&mut self, now: Instant, frame: F) -> Result<(), Full> {
        let own = self.own.with(frame.as_ref().len());
        if own.messages > self.config.messages || own.bytes > self.config.bytes {
            return Err(Full);
        }
        self.own = own;
        self.insert(now, What::Own(frame));
        Ok(())
    }

    /// Queues a message of the member `from`; `false`, and it is lost, if too much of that member, or of all members,
    /// waits already.
    pub fn push_peer(&mut self, now: Instant, from: u16, share: Share, frame: F) -> bool {
        let put = self.peers.put(from, frame.as_ref().len(), share);
        if put {
            self.insert(now, What::Peer(from, frame));
        }
        put
    }

    /// The member `key` came; `frame` says so.
    pub fn push_came(&mut self, now: Instant, key: u16, frame: F) {
        self.forget(key);
        let at = self.insert(now, What::Came(key, frame));
        self.came.insert(key, at);
    }

    /// The member `key` left; `frame` says so, unless nobody has been told that it came.
    pub fn push_left(&mut self, now: Instant, key: u16, frame: F) {
        if !self.forget(key) {
            self.insert(now, What::Left(frame));
        }
    }

    /// Queues a list of members, among them those of `keys`.
    pub fn push_list(&mut self, now: Instant, keys: impl IntoIterator<Item = u16>, list: L) {
        for key in keys {
            self.forget(key);
        }
        self.insert(now, What::List(list));
    }

    /// The reader has left its room: who is there, comes and goes is news no more.
    pub fn leave_room(&mut self) {
        self.came.clear();
        let bytes = &mut self.bytes;
        self.items.retain(|_, item| {
            let before = item.bytes;
            let stays = match &mut item.what {
                What::Came(..) | What::Left(_) => false,
                What::List(list) => {
                    list.shorten();
                    item.bytes = OVERHEAD + list.bytes();
                    true
                }
                What::Own(_) | What::Peer(..) => true,
            };
            *bytes = bytes.saturating_sub(before) + if stays { item.bytes } else { 0 };
            stays
        });
    }

    /// What is to be written next.
    pub fn pop(&mut self, now: Instant) -> Option<Next<F, L::Part>> {
        let mut first = self.items.first_entry()?;
        self.moved = now;
        let item = first.get_mut();
        let before = item.bytes;
        if let What::List(list) = &mut item.what {
            let part = list.next_part();
            item.bytes = OVERHEAD + list.bytes();
            self.bytes = self.bytes.saturating_sub(before) + item.bytes;
            if list.is_told() {
                self.bytes = self.bytes.saturating_sub(first.remove().bytes);
            }
            return Some(Next::Part(part));
        }
        self.bytes = self.bytes.saturating_sub(before);
        Some(Next::Frame(match first.remove().what {
            What::Own(frame) => {
                self.own = self.own.without(frame.as_ref().len());
                frame
            }
            What::Peer(from, frame) => {
                self.peers.take(from, frame.as_ref().len());
                frame
            }
            What::Came(key, frame) => {
                self.came.remove(&key);
                frame
            }
            What::Left(frame) => frame,
            What::List(_) => return None,
        }))
    }

    /// What all that waits takes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when nothing has been taken, although something waits.
    pub fn stalled_since(&self) -> Option<Instant> {
        (!self.items.is_empty()).then_some(self.moved)
    }

    fn insert(&mut self, now: Instant, what: What<F, L>) -> u64 {
        if self.items.is_empty() {
            self.moved = now;
        }
        let len = match &what {
            What::Own(frame) | What::Peer(_, frame) | What::Came(_, frame) | What::Left(frame) => {
                frame.as_ref().len()
            }
            What::List(list) => list.bytes(),
        };
        let (at, bytes) = (self.next, OVERHEAD + len);
        self.next += 1;
        self.bytes += bytes;
        self.items.insert(at, Item { what, bytes });
        at
    }

    /// Takes back the news that `key` came; `false` if that does not wait.
    fn forget(&mut self, key: u16) -> bool {
        let item = self.came.remove(&key).and_then(|at| self.items.remove(&at));
        if let Some(item) = &item {
            self.bytes = self.bytes.saturating_sub(item.bytes);
        }
        item.is_some()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    bytes: usize,
    messages: usize,
}

impl Waiting {
    fn with(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes + bytes,
            messages: self.messages + 1,
        }
    }

    fn without(self, bytes: usize) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(bytes),
            messages: self.messages.saturating_sub(1),
        }
    }

    fn fits(self, part: usize) -> bool {
        self.bytes <= PEER_BYTES / part && self.messages <= PEER_MESSAGES / part
    }
}

/// What others have sent and the reader has not taken: an entry for each of them, hence at most [`PEER_MESSAGES`].
#[derive(Debug, Default)]
struct Peers {
    all: Waiting,
    by_sender: BTreeMap<u16, Waiting>,
}

impl Peers {
    fn put(&mut self, from: u16, len: usize, share: Share) -> bool {
        let own = self.by_sender.get(&from).copied().unwrap_or_default().with(len);
        let all = self.all.with(len);
        let fits = all.fits(1) && own.fits(share as usize);
        if fits {
            self.all = all;
            self.by_sender.insert(from, own);
        }
        fits
    }

    fn take(&mut self, from: u16, len: usize) {
        self.all = self.all.without(len);
        let own = self
            .by_sender
            .get(&from)
            .copied()
            .unwrap_or_default()
            .without(len);
        if own.messages == 0 {
            self.by_sender.remove(&from);
        } else {
            self.by_sender.insert(from, own);
        }
    }
}

/// Whoever has not read for so long counts as stalled when memory is short.
const SHORT_STALL: Duration = Duration::from_secs(1);

/// One of all queues, when together they take too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// What it takes.
    pub bytes: usize,
    /// Since when nothing has been taken from it; `None` for an empty one.
    pub stalled_since: Option<Instant>,
}

/// Who is cut off so that `excess` bytes are free again: of those who read nothing for a second the largest, and the
/// longest silent of equals; then the largest of the others.
pub fn victims<K>(now: Instant, excess: usize, mut queues: Vec<(K, Load)>) -> Vec<K> {
    queues.retain(|(_, load)| load.bytes > 0);
    queues.sort_by_key(|(_, load)| {
        let since = load.stalled_since.unwrap_or(now);
        let stalled = now.duration_since(since) >= SHORT_STALL;
        (Reverse(stalled), Reverse(load.bytes), since)
    });
    let mut freed = 0;
    let taken = queues.into_iter().take_while(|(_, load)| {
        let more = freed < excess;
        freed += load.bytes;
        more
    });
    taken.map(|(key, _)| key).collect()
}
