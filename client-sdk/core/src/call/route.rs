//! The paths of a call: which are there, and which of them carries what we say.

use super::{Call, Event};
use crate::{
    carrier::{Carrier, Why},
    paths::{Kind, Path, PathId, Sending},
    voice::codec::Codecs,
};

impl<C: Codecs + Clone> Call<C> {
    /// A path that media can take from now on.
    pub fn add_path(&mut self, kind: Kind, carrier: Carrier, why: Why) -> PathId {
        let id = self.paths.add(kind, carrier, why);
        self.tell_path();
        id
    }

    /// Nothing is sent on this path any more. Without any path what we say is lost.
    pub fn remove_path(&mut self, id: PathId) {
        self.paths.remove(id);
        self.tell_path();
    }

    /// Says how datagrams travel on a path now, and why.
    pub fn set_carrier(&mut self, id: PathId, carrier: Carrier, why: Why) {
        self.paths.set_carrier(id, carrier, why);
        self.tell_path();
    }

    /// Every path, oldest first.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter()
    }

    /// An event, unless the owner knows it already.
    fn tell_path(&mut self) {
        let sending = match self.paths.sending() {
            Sending::On(id) => self.paths.path(id),
            Sending::Nowhere => None,
        };
        let now = sending.map(|path| (path.id, path.carrier, path.why));
        if now == self.told_path {
            return;
        }
        self.told_path = now;
        if let Some(&Path {
            id,
            kind,
            carrier,
            why,
            ..
        }) = sending
        {
            self.events.push_back(Event::Path {
                id,
                kind,
                carrier,
                why,
            });
        }
    }
}
