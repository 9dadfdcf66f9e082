//! Fault injection for applications' own tests: a bad network, from a seed, under the one socket of a client.
//!
//! Everything that a client sends and receives goes over one UDP socket, lanes as well as QUIC and with it
//! signalling. A [`Link`] lies between that socket and the network and may lose, hold up, reorder, copy, limit or
//! cut what passes, in either direction, and may be changed at any time. It needs no privileges, no proxy and no
//! network that is really bad.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use wzp_sdk::{
//!     Client,
//!     chaos::{Jitter, Link, Loss, Profile},
//! };
//!
//! let link = Link::new(7);
//! link.set(Profile {
//!     loss: Loss::Independent(0.1),
//!     delay: Duration::from_millis(40),
//!     jitter: Jitter {
//!         deviation: Duration::from_millis(15),
//!         memory: Duration::from_millis(60),
//!         ..Jitter::default()
//!     },
//!     ..Profile::default()
//! });
//! let client = Client::builder().relay("127.0.0.1:4433").chaos(&link).connect().await?;
//! // The call is on: see what the application does when nothing comes any more, and when it does again.
//! link.down().cut();
//! link.down().restore();
//! // A train enters a tunnel.
//! link.cut();
//! println!("{} packets of ours were lost to it", link.up().stats().cut);
//! # Ok(())
//! # }
//! ```
//!
//! The same seed, settings and sequence of packets give every packet the same fate. Time itself is the system's, to a
//! millisecond, and so is which packet a client sends when: two runs of a test lose the same numbers of a sequence,
//! not the same words.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wzp_sdk_core::chaos as core;
use wzp_socket::client::{Detour, OneWay, Packet};
use wzp_wire::Instant;

pub use wzp_sdk_core::chaos::{Jitter, Loss, Profile, Stats};

/// Packets of one client under way in one direction at most, 3 MiB of them: ten seconds of 200 a second.
const MOST_UNDER_WAY: usize = 2_048;

/// A bad link, or a handle to one: clones are the same link.
///
/// Several clients may have the same link, one after the other or at once. Each has its own packets, queue and
/// chance (from the seed, and how many clients came before it), but all obey the same settings.
#[derive(Clone)]
pub struct Link {
    up: Way,
    down: Way,
}

impl Link {
    /// A link that does nothing until it is told to. All chance comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            up: Way::new(seed),
            down: Way::new(seed.wrapping_add(1)),
        }
    }

    /// What the clients send.
    pub fn up(&self) -> &Way {
        &self.up
    }

    /// What the clients receive.
    pub fn down(&self) -> &Way {
        &self.down
    }

    /// [`Way::set`] in both directions, each of which has its own chance.
    pub fn set(&self, profile: Profile) {
        self.up.set(profile);
        self.down.set(profile);
    }

    /// [`Way::cut`] in both directions.
    pub fn cut(&self) {
        self.up.cut();
        self.down.cut();
    }

    /// [`Way::restore`] in both directions.
    pub fn restore(&self) {
        self.up.restore();
        self.down.restore();
    }

    /// The link as the next client has it.
    pub(crate) fn detour(&self) -> Detour {
        Detour {
            up: Box::new(self.up.enter()),
            down: Box::new(self.down.enter()),
        }
    }
}

/// One direction of a [`Link`], or a handle to it.
#[derive(Clone)]
pub struct Way(Arc<Mutex<State>>);

struct State {
    seed: u64,
    profile: Profile,
    cut: bool,
    /// Those of the clients that are there.
    links: BTreeMap<u64, core::Link<Packet>>,
    /// How many clients have come.
    clients: u64,
    /// Of clients that are gone.
    before: Stats,
}

impl Way {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            seed,
            profile: Profile::default(),
            cut: false,
            links: BTreeMap::new(),
            clients: 0,
            before: Stats::default(),
        })))
    }

    /// Does this to packets from now on; those under way arrive as they would have.
    ///
    /// Only [`Profile::reorder`] and copies change the order, so a shorter delay shows once what the longer one
    /// holds up has arrived. A packet that comes while 2,048 of its client are under way is dropped.
    pub fn set(&self, profile: Profile) {
        let mut state = self.state();
        state.profile = profile;
        for link in state.links.values_mut() {
            link.set_profile(profile);
        }
    }

    /// Nothing passes any more: what is under way is lost, and so is what follows until [`Way::restore`].
    pub fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        state.links.values_mut().for_each(core::Link::cut);
    }

    /// Ends a cut. The settings are those from before, or set meanwhile.
    pub fn restore(&self) {
        let mut state = self.state();
        state.cut = false;
        state.links.values_mut().for_each(core::Link::restore);
    }

    /// What it does to packets now, unless it is cut.
    pub fn profile(&self) -> Profile {
        self.state().profile
    }

    /// What became of the packets so far, QUIC's as well as lanes'. A packet is one UDP datagram.
    pub fn stats(&self) -> Stats {
        let state = self.state();
        let links = state.links.values().map(core::Link::stats);
        links.fold(state.before, Stats::plus)
    }

    fn enter(&self) -> Passenger {
        let mut state = self.state();
        let number = state.clients;
        state.clients += 1;
        // The other direction is seeded with the odd ones, or the even ones.
        let seed = state.seed.wrapping_add(number.wrapping_mul(2));
        let mut link = core::Link::new(state.profile, seed).holding_at_most(MOST_UNDER_WAY);
        if state.cut {
            link.cut();
        }
        state.links.insert(number, link);
        Passenger {
            way: self.clone(),
            number,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client on one [`Way`], until it is dropped.
struct Passenger {
    way: Way,
    number: u64,
}

impl OneWay for Passenger {
    fn handle_packet(&self, now: Instant, packet: Packet) {
        if let Some(link) = self.way.state().links.get_mut(&self.number) {
            let bytes = packet.wire_bytes();
            link.send_sized(now, packet, bytes);
        }
    }

    fn poll_packet(&self, now: Instant) -> Option<Packet> {
        self.way.state().links.get_mut(&self.number)?.poll(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.way.state().links.get(&self.number)?.poll_timeout()
    }
}

impl Drop for Passenger {
    fn drop(&mut self) {
        let mut state = self.way.state();
        if let Some(link) = state.links.remove(&self.number) {
            state.before = state.before.plus(link.stats());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_clients_that_are_there_and_those_that_come() {
        let link = Link::new(1);
        let lossy = Profile {
            loss: Loss::Independent(0.5),
            ..Profile::default()
        };
        let early = link.detour();
        link.up().set(lossy);
        link.down().cut();
        let late = link.detour();
        for number in [0, 1] {
            let (up, down) = (link.up().state(), link.down().state());
            assert_eq!(up.links[&number].profile(), lossy);
            assert!(up.links[&number].is_open() && !down.links[&number].is_open());
            assert_eq!(down.links[&number].profile(), Profile::default());
        }
        link.restore();
        assert!(link.down().state().links.values().all(core::Link::is_open));
        drop((early, late));
        assert!(link.up().state().links.is_empty() && link.down().state().links.is_empty());
    }
}
