//! From a relay that said welcome to a link of the media thread, and the tasks beside it.

use std::sync::Arc;

use wzp_sdk_core::carrier::Preference;
use wzp_socket::{client::Socket, clock};
use wzp_wire::{RelayId, signal::Decoder};

use crate::{
    media::{FromRelay, Handle, Link, LinkId},
    session::{self, After, RelayInfo, Session},
};

/// A link whose tasks are not running yet.
pub(super) struct Attached {
    pub(super) link: Link,
    pub(super) info: RelayInfo,
    readers: Readers,
}

struct Readers {
    id: LinkId,
    connection: quinn::Connection,
    recv: quinn::RecvStream,
    decoder: Decoder,
}

/// Makes a link of a session: to `relay` of a cluster, or to the only relay of a client.
pub(super) fn attach(
    socket: &Arc<Socket>,
    session: Session,
    carrier: Preference,
    relay: Option<RelayId>,
) -> Attached {
    let Session {
        connection,
        info,
        lane,
        send,
        recv,
        decoder,
    } = session;
    let after = match &relay {
        Some(_) => After::Close(connection.clone()),
        None => After::Stay,
    };
    let outbox = session::spawn_writer(send, after);
    let mut link = Link::new(
        clock::now(),
        Arc::clone(socket),
        connection.clone(),
        info.observed,
        lane,
        carrier,
        outbox,
    );
    link.relay = relay;
    let readers = Readers {
        id: link.id,
        connection,
        recv,
        decoder,
    };
    Attached { link, info, readers }
}

impl Attached {
    /// Begins to hand on what the relay says.
    pub(super) fn start(self, media: &Handle) -> (Link, RelayInfo) {
        self.readers.spawn(media);
        (self.link, self.info)
    }

    /// As [`Self::start`], for a link that the media thread is told of by somebody else.
    pub(super) fn split(self) -> (Link, RelayInfo, impl FnOnce(&Handle)) {
        let readers = self.readers;
        (self.link, self.info, move |media: &Handle| readers.spawn(media))
    }
}

impl Readers {
    fn spawn(self, media: &Handle) {
        let Self {
            id,
            connection,
            mut recv,
            mut decoder,
        } = self;
        let signals = media.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = session::next_message(&mut recv, &mut decoder).await {
                signals.pass(FromRelay::Signal(id, Box::new(message))).await;
            }
            signals.pass(FromRelay::Lost(id)).await;
        });
        let datagrams = media.clone();
        tokio::spawn(async move {
            while let Ok(datagram) = connection.read_datagram().await {
                datagrams.offer(id, datagram);
            }
            datagrams.pass(FromRelay::Lost(id)).await;
        });
    }
}
